"""The benchmark's table: medians, ratios, and no figure from a run that failed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.report import table, write_report


def row(number: int, server: str, speed: float, failed: int = 0) -> dict[str, Any]:
    return {
        "round": number,
        "server": server,
        "clients": 8,
        "failed": failed,
        "errors": {"status 503": failed} if failed else {},
        "tokens_per_s": speed,
        "ttft_ms": {"p50": 10.0 * number},
    }


ROWS = [row(n, "ours", 100.0 * n) for n in (1, 2, 3)] + [row(n, "theirs", 50.0) for n in (1, 2, 3)]


def test_cells_are_medians_with_their_spread_and_ratios() -> None:
    ours, theirs = table(ROWS).splitlines()[2:]
    assert ours == "| ours | 200 (100–300) | 20 (10–30) |"
    assert theirs == "| theirs | 50 (50–50) (4.00×) | 20 (10–30) |"


def test_a_run_with_failures_gives_no_figure() -> None:
    rows = [*ROWS, row(4, "theirs", 900.0, failed=1)]
    assert table(rows).splitlines()[3] == "| theirs | failed | failed |"


def test_what_was_not_measured_has_no_figure() -> None:
    more = {**row(1, "ours", 70.0), "clients": 32}
    assert (
        table([*ROWS, more]).splitlines()[3]
        == "| theirs | 50 (50–50) (4.00×) | – | 20 (10–30) | – |"
    )


def test_the_plot_is_drawn(tmp_path: Path) -> None:
    write_report([*ROWS, {**row(1, "theirs", 1.0, failed=1), "clients": 32}], tmp_path)
    assert "<svg" in (tmp_path / "llm.svg").read_text()
