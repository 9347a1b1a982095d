"""Breaks every rank of a real engine under load, again and again, and prints how it recovered.

    python -m bench.breaks --times 20 --ranks 2

Takes LLM_MODEL and the other settings as the service does; asserts what
`tests/integration/llm_backend/test_broken_ranks.py` asserts, with the limits of an idle machine.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
from pathlib import Path

from tests.support.breaks import BREAKS, Recovery, break_rank
from tests.support.llm_service import running_service


def main() -> None:
    """Print a row for each break, then medians and the worst of each kind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--ready-within", type=float, default=15.0, help="seconds")
    given = parser.parse_args()
    seen: dict[str, list[Recovery]] = {how: [] for how in BREAKS}
    with (
        tempfile.TemporaryDirectory() as directory,
        running_service(
            Path(directory) / "log",
            worker="leaving",
            seconds=240,
            LLM_TENSOR_PARALLEL=str(given.ranks),
            LLM_RESTART_BACKOFF_MAX_S="0.5",
        ) as service,
    ):
        each = itertools.cycle(itertools.product(BREAKS, range(given.ranks)))
        for how, rank in itertools.islice(each, given.times):
            recovery = break_rank(
                service, how, rank, ready_within=given.ready_within, max_tokens=1500
            )
            seen[how].append(recovery)
            print(how, rank, recovery, flush=True)
    for how, recoveries in seen.items():
        print(how, *(_summary(recoveries, name) for name in ("red", "answered", "ready")))


def _summary(recoveries: list[Recovery], name: str) -> str:
    values = [getattr(recovery, name) for recovery in recoveries]
    return f"{name} {statistics.median(values):.2f} s (at most {max(values):.2f})" if values else ""


if __name__ == "__main__":
    main()
