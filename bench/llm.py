"""The LLM benchmark: every server on the same weights and workload, in interleaved rounds.

    python -m bench.llm MODEL_DIR --out OUT --rounds 3 \\
        --vllm …/bin/vllm --llama-server …/llama-server --gguf …-BF16.gguf \\
        --transformers …/bin/transformers

Each round starts, warms, loads and stops every server in turn, so that a drift of the machine
touches all alike. Writes OUT/results.json, OUT/report.md and OUT/llm.svg. Rounds that
OUT/results.json has already are kept, so rounds can be run at several times.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from bench import load, peers
from bench.peers import Peer
from bench.report import write_report
from bench.workload import Workload

START_TIMEOUT_S = 300


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextmanager
def started(peer: Peer, port: int, log: Path) -> Iterator[None]:
    """Run `peer` until the block ends.

    Raises:
        RuntimeError: it ended, or was not ready in time; the message points at its log.
    """
    with log.open("ab") as out:
        process = subprocess.Popen(
            peer.command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **peer.env},
            start_new_session=True,
        )
    try:
        _wait_ready(process, f"http://127.0.0.1:{port}{peer.ready_path}", peer, log)
        yield
    finally:
        _end(process)


def _wait_ready(process: subprocess.Popen[bytes], url: str, peer: Peer, log: Path) -> None:
    end = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"{peer.name} ended with {process.returncode}; see {log}")
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass  # not listening yet
        time.sleep(0.5)
    raise RuntimeError(f"{peer.name} was not ready after {START_TIMEOUT_S} s; see {log}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its own session: only what it started
        process.wait()


def measure(peer: Peer, port: int, seed: int) -> dict[int, load.Report]:
    """Warm `peer` up, load it at each number of clients, and return the figures."""
    url = f"http://127.0.0.1:{port}/v1"
    model = peer.model or httpx.get(f"{url}/models").raise_for_status().json()["data"][0]["id"]
    warm = Workload(model, seed=-1)
    asyncio.run(load.run(url, warm, requests=8, clients=4, extra=dict(peer.extra)))
    figures = {}
    for clients, requests in peer.requests.items():
        workload = Workload(model, seed=seed * 1000 + clients)
        figures[clients] = asyncio.run(
            load.run(url, workload, requests=requests, clients=clients, extra=dict(peer.extra))
        )
    return figures


def rounds(makers: Sequence[Callable[[int], Peer]], count: int, out: Path) -> list[dict[str, Any]]:
    """Run `count` interleaved rounds; return one row per round, server and load, old ones first."""
    results = out / "results.json"
    rows: list[dict[str, Any]] = json.loads(results.read_text()) if results.exists() else []
    first = 1 + max((row["round"] for row in rows), default=-1)
    for number in range(first, first + count):
        for make in makers:
            port = free_port()
            peer = make(port)
            log = out / f"{peer.name.replace(' ', '-').replace(',', '')}.log"
            try:
                with started(peer, port, log):
                    measured = measure(peer, port, number)
            except (RuntimeError, httpx.HTTPError) as error:
                print(f"{peer.name} is left out of round {number}: {error}", flush=True)
                continue
            for clients, figures in measured.items():
                row = {"round": number, "server": peer.name, "clients": clients}
                rows.append({**row, **asdict(figures)})
                print(*row.values(), figures.tokens_per_s, figures.errors, flush=True)
            results.write_text(json.dumps(rows, indent=1))
    return rows


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description="LLM servers on the same weights, interleaved")
    parser.add_argument("model_dir", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--vllm", type=Path)
    parser.add_argument("--llama-server", type=Path)
    parser.add_argument("--gguf", type=Path)
    parser.add_argument("--transformers", type=Path)
    parser.add_argument("--deepspeed-generate", action="store_true")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows = rounds(_makers(arguments), arguments.rounds, arguments.out)
    write_report(rows, arguments.out)


def _makers(arguments: argparse.Namespace) -> list[Callable[[int], Peer]]:
    model, dtype, device = arguments.model_dir, arguments.dtype, arguments.device
    variants: list[dict[str, Any]] = (
        [{}, {"tensor_parallel": 2}] if device == "cpu" else [{}, {"kernels": "plain"}]
    )
    makers: list[Callable[[int], Peer]] = [
        partial(peers.isthmus, model, dtype=dtype, device=device, **variant) for variant in variants
    ]
    if arguments.vllm:
        makers.append(lambda port: peers.vllm(arguments.vllm, model, port))
    if arguments.llama_server:
        makers.append(lambda port: peers.llama_cpp(arguments.llama_server, arguments.gguf, port))
    if arguments.transformers:
        makers.append(
            lambda port: peers.transformers_serve(arguments.transformers, model, port, device)
        )
    if arguments.deepspeed_generate:
        makers.append(lambda port: peers.deepspeed_generate(model, port))
    return makers


if __name__ == "__main__":
    main()
