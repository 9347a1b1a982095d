"""A run's scores as JSON and as one HTML page with a chart."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rag_graph.evals.metrics import Estimate, difference, estimate

Scores = Mapping[str, Mapping[int, float]]
"""Values of each measure, by the number of the question."""

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse } td, th { padding: .3rem .8rem; text-align: right }
th:first-child, td:first-child { text-align: left } tr { border-bottom: 1px solid #ccc }
text { font-size: 13px; fill: currentColor }
"""
_COLOURS = ("#3465a4", "#c17d11", "#4e9a06")


def estimates(scores: Scores) -> dict[str, Estimate]:
    """Return the mean of each measure that any question was scored on."""
    return {name: estimate(list(values.values())) for name, values in scores.items() if values}


def as_json(runs: Mapping[str, Scores], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return a report: the first run's means at the top, then every run with its intervals.

    Args:
        runs: scores of each run (a method, or a setting) by its name, the main one first.
        facts: what else is worth knowing, such as counts.
    """
    first = next(iter(runs.values()))
    top = {name: round(e.mean, 6) for name, e in estimates(first).items()}
    detail = {
        run: {name: asdict(e) for name, e in estimates(scores).items()}
        for run, scores in runs.items()
    }
    return {**top, **facts, "runs": detail}


def compared(a: Scores, b: Scores) -> dict[str, Estimate]:
    """Return how much better `b` is than `a` in each measure, question by question.

    A measure is compared on the questions that both were scored on: an answer cannot be compared
    with an abstention. It is left out where there are none.
    """
    paired = {name: _paired(values, b.get(name, {})) for name, values in a.items()}
    return {name: difference(*zip(*pairs, strict=True)) for name, pairs in paired.items() if pairs}


def _paired(a: Mapping[int, float], b: Mapping[int, float]) -> list[tuple[float, float]]:
    return [(value, b[number]) for number, value in a.items() if number in b]


def as_html(title: str, runs: Mapping[str, Scores], facts: Mapping[str, Any]) -> str:
    """Return one self-contained page: facts, chart, table."""
    table = {run: estimates(scores) for run, scores in runs.items()}
    rows = "".join(f"<li>{html.escape(k)}: {html.escape(str(v))}</li>" for k, v in facts.items())
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>"
        f"<style>{_STYLE}</style><h1>{html.escape(title)}</h1><ul>{rows}</ul>"
        f"{_chart(table)}{_table(table)}</html>"
    )


def _measures(table: Mapping[str, Mapping[str, Estimate]]) -> list[str]:
    return list(dict.fromkeys(name for run in table.values() for name in run))


def _table(table: Mapping[str, Mapping[str, Estimate]]) -> str:
    head = "".join(f"<th>{html.escape(run)}</th>" for run in table)
    rows = []
    for name in _measures(table):
        cells = "".join(f"<td>{_cell(run.get(name))}</td>" for run in table.values())
        rows.append(f"<tr><td>{html.escape(name)}</td>{cells}</tr>")
    return f"<table><tr><th>measure</th>{head}</tr>{''.join(rows)}</table>"


def _cell(value: Estimate | None) -> str:
    if value is None or math.isnan(value.mean):
        return "–"
    return f"{value.mean:.4f} <small>[{value.low:.4f}, {value.high:.4f}]</small>"


def _chart(table: Mapping[str, Mapping[str, Estimate]]) -> str:
    """Return horizontal bars with their intervals, grouped by measure, from 0 to 1."""
    bars, y = [], 10
    for name in _measures(table):
        bars.append(f'<text x="0" y="{y + 12}">{html.escape(name)}</text>')
        for (run, values), colour in zip(table.items(), _COLOURS * len(table), strict=False):
            if name in values:
                bars.append(_bar(run, values[name], y, colour))
                y += 18
        y += 10
    return f'<svg viewBox="0 0 800 {y}" role="img">{"".join(bars)}</svg>'


def _bar(run: str, value: Estimate, y: int, colour: str) -> str:
    left, scale = 160, 480
    low, high = left + scale * value.low, left + scale * value.high
    return (
        f'<rect x="{left}" y="{y}" width="{scale * value.mean:.1f}" height="14" fill="{colour}"/>'
        f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y + 7}" y2="{y + 7}" stroke="currentColor"/>'
        f'<text x="{left + scale + 10}" y="{y + 12}">{value.mean:.3f} {html.escape(run)}</text>'
    )
