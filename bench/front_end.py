"""CPU time of the HTTP front end for each streamed token, over ranks that cost nothing.

    python -m bench.front_end --streams 32 --tokens 500

Starts the service over `tests.support.fake_worker` (no model), opens streams, reads them all, and
divides the CPU time that the front end's process used by the tokens that arrived.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from tests.support.llm_service import ServiceProcess, running_service
from tests.support.tiny_model import write_tiny_model


async def stream(host: str, port: int, tokens: int) -> int:
    """Read one stream; return the tokens that arrived in it."""
    body = {"model": "tiny", "prompt": "abcdefgh", "max_tokens": tokens, "ignore_eos": True}
    raw = json.dumps({**body, "stream": True}).encode()
    reader, writer = await asyncio.open_connection(host, port)
    head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(raw)}\r\n"
    writer.write(f"{head}connection: close\r\n\r\n".encode() + raw)
    whole = await reader.read(-1)
    writer.close()
    return whole.count(b'"text": "') - whole.count(b'"text": ""')


async def load(service: ServiceProcess, streams: int, tokens: int) -> int:
    """Read all streams at once; return the tokens that arrived."""
    host, port = service.url.removeprefix("http://").split(":")
    counts = await asyncio.gather(*(stream(host, int(port), tokens) for _ in range(streams)))
    return sum(counts)


def measure(service: ServiceProcess, streams: int, tokens: int) -> dict[str, Any]:
    """Return tokens, CPU microseconds a token, and tokens/s."""
    front_end = psutil.Process(service.process.pid)
    before, began = front_end.cpu_times(), time.perf_counter()
    arrived = asyncio.run(load(service, streams, tokens))
    wall, after = time.perf_counter() - began, front_end.cpu_times()
    assert arrived == streams * tokens, f"{arrived} of {streams * tokens} tokens arrived"
    cpu = after.user + after.system - before.user - before.system
    return {
        "streams": streams,
        "tokens": arrived,
        "cpu_us_per_token": round(cpu / arrived * 1e6, 1),
        "tokens_per_s": round(arrived / wall),
    }


def main() -> None:
    """Print one line of JSON for each round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as directory,
        running_service(
            Path(directory) / "log",
            LLM_MODEL=str(write_tiny_model(Path(directory) / "tiny")),
            LLM_MAX_NUM_SEQS="1024",
            LLM_MAX_WAITING="1024",
            FAKE_STEP_S="0.02",
        ) as service,
    ):
        measure(service, given.streams, 20)
        for _ in range(given.rounds):
            print(json.dumps(measure(service, given.streams, given.tokens)))


if __name__ == "__main__":
    main()
