"""The LLM benchmark's report: medians of rounds as a table, ratios, and a plot."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt

Row = dict[str, Any]
_NOTHING = {"failed", "–"}


def cell(rows: Sequence[Row], server: str, clients: int, figure: str) -> tuple[float, float, float]:
    """Return median, minimum and maximum over rounds of one figure ("ttft_ms.p50": nested).

    Raises:
        ValueError: a round had failed requests, or there is none; that is no measurement.
    """
    picked = [r for r in rows if (r["server"], r["clients"]) == (server, clients)]
    if not picked:
        raise ValueError(f"{server} was not measured at {clients} clients")
    failed = [r["errors"] for r in picked if r["failed"]]
    if failed:
        raise ValueError(f"{server} at {clients} clients had failures: {failed}")
    name, _, part = figure.partition(".")
    values = [r[name][part] if part else r[name] for r in picked]
    return statistics.median(values), min(values), max(values)


def table(rows: Sequence[Row]) -> str:
    """Return tokens/s and TTFT of every server as a Markdown table, ratios to the first one."""
    clients = sorted({row["clients"] for row in rows})
    heads = [f"c={c} tok/s (ours ×)" for c in clients] + [f"c={c} TTFT p50 ms" for c in clients]
    lines = ["| server | " + " | ".join(heads) + " |", "|---" * (1 + 2 * len(clients)) + "|"]
    names = list(dict.fromkeys(row["server"] for row in rows))
    for name in names:
        cells = [_speed(rows, name, names[0], c) for c in clients]
        cells += [_text(rows, name, c, "ttft_ms.p50") for c in clients]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _speed(rows: Sequence[Row], name: str, ours: str, clients: int) -> str:
    text = _text(rows, name, clients, "tokens_per_s")
    if name == ours or text in _NOTHING:
        return text
    ratio = (
        cell(rows, ours, clients, "tokens_per_s")[0] / cell(rows, name, clients, "tokens_per_s")[0]
    )
    return f"{text} ({ratio:.2f}×)"


def _text(rows: Sequence[Row], name: str, clients: int, figure: str) -> str:
    if not any((row["server"], row["clients"]) == (name, clients) for row in rows):
        return "–"
    try:
        middle, low, high = cell(rows, name, clients, figure)
    except ValueError:
        return "failed"
    return f"{middle:.0f} ({low:.0f}–{high:.0f})"


def plot(rows: Sequence[Row], path: Path) -> None:
    """Draw tokens/s against the number of clients, with the spread over rounds."""
    figure, axes = plt.subplots(figsize=(8, 4.5))
    clients = sorted({row["clients"] for row in rows})
    for name in dict.fromkeys(row["server"] for row in rows):
        measured = [c for c in clients if _text(rows, name, c, "tokens_per_s") not in _NOTHING]
        cells = [cell(rows, name, c, "tokens_per_s") for c in measured]
        middle = [c[0] for c in cells]
        spread = [[m - c[1] for m, c in zip(middle, cells, strict=True)],
                  [c[2] - m for m, c in zip(middle, cells, strict=True)]]  # fmt: skip
        axes.errorbar(measured, middle, yerr=spread, marker="o", capsize=3, label=name)
    axes.set(xscale="log", xlabel="clients", ylabel="output tokens/s", xticks=clients)
    axes.set_xticklabels([str(c) for c in clients])
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path)


def write_report(rows: Sequence[Row], out: Path) -> None:
    """Write OUT/report.md and OUT/llm.svg."""
    (out / "report.md").write_text(table(rows))
    plot(rows, out / "llm.svg")
