"""A closed loop of HTTP requests that costs little beside the server it measures.

httpx takes about a millisecond of CPU a request, more than the servers measured here. This client
sends the same bytes over kept-alive sockets and looks only for where an answer, or its first token,
begins and ends.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

END_OF_CHUNKS = b"0\r\n\r\n"
HEAD_END = b"\r\n\r\n"
FIRST_WORD = re.compile(rb'"content": ?"(?!")')
"""Of a streamed chunk; the role frame's is empty."""
LAST_WORD = re.compile(rb'data: \[DONE\]|"finish_reason": ?"')
"""What ends a stream; not every peer sends [DONE]."""


@dataclass
class Timings:
    """Seconds of every request that was answered with 200, and what else came."""

    totals: list[float] = field(default_factory=list)
    first_words: list[float] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)
    wall_s: float = 0.0

    def fail(self, reason: str) -> None:
        """Count one request that was not answered as it should."""
        self.errors[reason] = self.errors.get(reason, 0) + 1

    def report(self) -> dict[str, Any]:
        """Return requests/s, and latencies in milliseconds."""
        figures: dict[str, Any] = {
            "requests_per_s": round(len(self.totals) / self.wall_s, 1) if self.wall_s else 0.0,
            "p50_ms": milliseconds(self.totals, 0.5),
            "p99_ms": milliseconds(self.totals, 0.99),
            "errors": self.errors,
        }
        if self.first_words:
            figures["ttft_p50_ms"] = milliseconds(self.first_words, 0.5)
            figures["ttft_p99_ms"] = milliseconds(self.first_words, 0.99)
        return figures


def milliseconds(seconds: list[float], quantile: float) -> float:
    """Return a quantile of `seconds`, in milliseconds; 0 of none."""
    ordered = sorted(seconds)
    return round(1e3 * ordered[round(quantile * (len(ordered) - 1))], 2) if ordered else 0.0


@dataclass(frozen=True)
class Call:
    """One request, whole."""

    url: str
    body: dict[str, Any] | None = None
    """Posted as JSON; None for a GET."""

    @property
    def streamed(self) -> bool:
        """Whether the answer's first word is timed."""
        return bool(self.body and self.body.get("stream"))

    def encoded(self) -> bytes:
        """Return its bytes on the wire."""
        where = urlsplit(self.url)
        raw = b"" if self.body is None else json.dumps(self.body).encode()
        lines = [f"{'GET' if self.body is None else 'POST'} {where.path} HTTP/1.1"]
        lines += [f"host: {where.netloc}", "accept-encoding: identity"]
        if raw:
            lines += ["content-type: application/json", f"content-length: {len(raw)}"]
        return "\r\n".join(lines).encode() + HEAD_END + raw


async def closed_loop(call: Call, clients: int, requests: int, warm: int = 0) -> Timings:
    """Send `requests` of `call`, `clients` at a time, after `warm` that do not count."""
    if warm:
        await closed_loop(call, clients, warm)
    timings, numbers = Timings(), iter(range(requests))
    begun = time.perf_counter()
    await asyncio.gather(*(_client(call, numbers, timings) for _ in range(clients)))
    timings.wall_s = time.perf_counter() - begun
    return timings


async def _client(call: Call, numbers: Iterator[int], timings: Timings) -> None:
    where, sent = urlsplit(call.url), call.encoded()
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    for _ in numbers:
        if connection is None:
            connection = await asyncio.open_connection(where.hostname, where.port)
        reader, writer = connection
        begun = time.perf_counter()
        try:
            writer.write(sent)
            reuse = await _answer(reader, call.streamed, begun, timings)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            timings.fail(type(error).__name__)
            reuse = False
        if not reuse:
            writer.close()
            connection = None
    if connection is not None:
        connection[1].close()


async def _answer(
    reader: asyncio.StreamReader, streamed: bool, begun: float, timings: Timings
) -> bool:
    """Read one answer; return whether its connection can take another request."""
    head = (await reader.readuntil(HEAD_END)).lower()
    status = int(head[9:12])
    if b"transfer-encoding: chunked" in head:
        whole = await _chunks(reader, begun, timings if streamed else None)
    else:
        at = head.index(b"content-length:") + 15
        await reader.readexactly(int(head[at : head.index(b"\r\n", at)]))
        whole = True
    if status == 200 and whole:
        timings.totals.append(time.perf_counter() - begun)
    else:
        timings.fail(f"status {status}" if whole else "broken off")
    return b"connection: close" not in head


async def _chunks(reader: asyncio.StreamReader, begun: float, timings: Timings | None) -> bool:
    """Read a chunked body; return whether it ended as its protocol asks."""
    tail, told, done = b"", timings is None, timings is None
    for part in itertools.count():
        data = await reader.read(65536)
        if not data:
            raise asyncio.IncompleteReadError(tail, None)
        if not told and timings is not None and FIRST_WORD.search(tail + data):
            timings.first_words.append(time.perf_counter() - begun)
            told = True
        done = done or LAST_WORD.search(tail + data) is not None
        tail = (tail + data)[-4096:]
        if tail.endswith(END_OF_CHUNKS):
            return done or part == 0
    return False
