"""Serves a modest load for long, and prints how the memory of each process moves.

    python -m bench.soak --minutes 30 --rate 0.5

An open loop of the RAG workload, every prompt different from its first word, so that cache blocks
are evicted all the time. Every request must succeed.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bench import load
from bench.workload import Workload
from tests.support.llm_service import ServiceProcess, running_service

_EVERY_S = 10.0


@dataclass
class Memory:
    """RSS of one process over time."""

    process: psutil.Process
    minutes: list[float] = field(default_factory=list)
    mib: list[float] = field(default_factory=list)

    def sample(self, minute: float) -> None:
        self.minutes.append(minute)
        self.mib.append(self.process.memory_info().rss / 2**20)

    def slope(self, after: float) -> float:
        """Return MiB a minute by least squares, from the minute `after` on."""
        points = [(m, v) for m, v in zip(self.minutes, self.mib, strict=True) if m >= after]
        return statistics.linear_regression(*zip(*points, strict=True)).slope


async def watch(memories: dict[str, Memory]) -> None:
    """Sample until cancelled."""
    began = time.monotonic()
    while True:
        for memory in memories.values():
            memory.sample((time.monotonic() - began) / 60)
        await asyncio.sleep(_EVERY_S)


async def soak(service: ServiceProcess, minutes: float, rate: float) -> dict[str, Memory]:
    """Load the service; return the memory of its processes."""
    ranks = {f"rank {i}": Memory(p) for i, p in enumerate(service.ranks())}
    memories = {"front end": Memory(psutil.Process(service.process.pid)), **ranks}
    watching = asyncio.create_task(watch(memories))
    workload = Workload(service.model, shared_prefix=False)
    report = await load.run(
        f"{service.url}/v1",
        workload,
        requests=int(minutes * 60 * rate),
        rate_per_s=rate,
        extra={"ignore_eos": True},
    )
    watching.cancel()
    assert report.failed == 0, report.errors
    print(f"{report.served} requests, TTFT {report.ttft_ms}, ITL {report.itl_ms}")
    return memories


def main() -> None:
    """Print each process's memory and its slope, the first sixth left out as warm-up."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rate", type=float, default=0.5, help="requests a second")
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as directory,
        running_service(Path(directory) / "log", worker=None, seconds=240) as service,
    ):
        memories = asyncio.run(soak(service, given.minutes, given.rate))
    for name, memory in memories.items():
        slope = memory.slope(given.minutes / 6)
        print(f"{name}: {memory.mib[0]:.0f} to {memory.mib[-1]:.0f} MiB, {slope:+.3f} MiB/min")


if __name__ == "__main__":
    main()
