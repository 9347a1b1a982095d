"""The LLM service alone over HTTP: as its load grows, what the prefix cache saves, its memory.

LLM_DTYPE=bfloat16 python -m bench.service growth
LLM_DTYPE=bfloat16 python -m bench.service prefix
LLM_DTYPE=bfloat16 python -m bench.service memory
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path

import psutil

from bench import load
from bench.workload import Workload
from tests.support.llm_service import ServiceProcess, running_service


def run(service: ServiceProcess, clients: int, requests: int, *, shared: bool, seed: int) -> None:
    """Print the figures of one closed loop."""
    workload = Workload(service.model, shared_prefix=shared, seed=seed)
    extra = {"ignore_eos": True}
    url = f"{service.url}/v1"
    figures = asyncio.run(load.run(url, workload, requests=requests, clients=clients, extra=extra))
    assert figures.failed == 0, figures.errors
    ratio = figures.itl_ms["p99"] / figures.itl_ms["p50"]
    print(
        f"{clients:4d} clients, {'shared' if shared else 'own'} prefix: "
        f"{figures.tokens_per_s:.0f} tok/s, TTFT p50 {figures.ttft_ms['p50']:.0f} ms, "
        f"ITL p50 {figures.itl_ms['p50']:.1f} p99 {figures.itl_ms['p99']:.1f} ms ({ratio:.2f}×)",
        flush=True,
    )


def growth(service: ServiceProcess, seed: int) -> None:
    """From as many clients as sequences run together to eight times as many: the same work."""
    for clients in (32, 64, 128, 256):
        run(service, clients, 256, shared=True, seed=1000 * seed + clients)


def prefix(service: ServiceProcess, seed: int) -> None:
    """Prompts whose first 181 tokens are those of the others, and prompts that differ early."""
    for shared in (True, False):
        run(service, 8, 96, shared=shared, seed=seed)


def memory(service: ServiceProcess, seed: int) -> None:
    """All processes of the service, front end and mpirun included, before and after a load."""
    print(f"PSS {_pss_mib(service):.0f} MiB", flush=True)
    for clients in (8, 32):
        run(service, clients, 60, shared=True, seed=seed)
    print(f"PSS {_pss_mib(service):.0f} MiB", flush=True)


def _pss_mib(service: ServiceProcess) -> float:
    """Return proportional set sizes: what ranks share counts once."""
    front = psutil.Process(service.process.pid)
    processes = [front, *front.children(recursive=True)]
    return float(sum(process.memory_full_info().pss for process in processes)) / 2**20


WHAT: dict[str, Callable[[ServiceProcess, int], None]] = {
    "growth": growth,
    "prefix": prefix,
    "memory": memory,
}


def main() -> None:
    """Start the service as the environment says, warm it up, measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=WHAT)
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as directory,
        running_service(
            Path(directory) / "log", worker=None, seconds=240, LLM_THREADS_PER_RANK="0"
        ) as service,
    ):
        run(service, 4, 8, shared=True, seed=-1)
        for number in range(given.rounds):
            WHAT[given.what](service, number)


if __name__ == "__main__":
    main()
