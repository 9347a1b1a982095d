"""The mock LLM's load: a batch of so many sequences, a queue before it, a start that takes time.

It reports itself as the LLM service does: header, metrics, readiness.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from contracts import telemetry


class Batch:
    """Who is generating and who waits for it."""

    def __init__(self) -> None:
        self.running = 0
        self.first_tokens = 0
        self.first_token_seconds = 0.0
        self._queue: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """Sequences that wait for a place."""
        return len(self._queue)

    @asynccontextmanager
    async def place(self, size: int) -> AsyncIterator[None]:
        """Hold one of `size` places, in the order of asking; 0: there are always more."""
        if size and self.running >= size:
            await self._wait()
        else:
            self.running += 1
        try:
            yield
        finally:
            self._free()

    def first_token(self, seconds: float) -> None:
        """Note how long a first token took."""
        self.first_tokens += 1
        self.first_token_seconds += seconds

    def header(self, capacity: int) -> str:
        """Return the load as the LLM service's header has it."""
        in_flight = self.running + self.waiting
        return (
            f"running={self.running}, waiting={self.waiting}, in_flight={in_flight}, "
            f"kv_free=1.00, capacity={capacity}"
        )

    def metrics(self, requests: int) -> str:
        """Return the figures as Prometheus reads them."""
        figures = (
            (telemetry.LLM_REQUESTS_TOTAL, "counter", requests),
            (telemetry.LLM_REQUESTS_RUNNING, "gauge", self.running),
            (telemetry.LLM_REQUESTS_WAITING, "gauge", self.waiting),
        )
        lines = [f"# TYPE {name} {kind}\n{name} {value}\n" for name, kind, value in figures]
        ttft = telemetry.LLM_TTFT_SECONDS
        lines.append(
            f"# TYPE {ttft} summary\n"
            f"{ttft}_sum {self.first_token_seconds}\n{ttft}_count {self.first_tokens}\n"
        )
        return "".join(lines)

    async def _wait(self) -> None:
        place = asyncio.get_running_loop().create_future()
        self._queue.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place in self._queue:
                self._queue.remove(place)
            elif not place.cancelled():
                self._free()
            raise

    def _free(self) -> None:
        """Pass a place on, or give it up."""
        while self._queue:
            place = self._queue.popleft()
            if not place.cancelled():
                place.set_result(None)
                return
        self.running -= 1


class Start:
    """A start that takes `seconds` of the clock `now`."""

    def __init__(self, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._now = now
        self._began = now()

    @property
    def left_s(self) -> float:
        """Seconds until requests are served; 0 when they are."""
        return max(0.0, self._began + self._seconds - self._now())

    @property
    def percent(self) -> float:
        """How much of it is done."""
        return 100.0 if not self._seconds else 100 * (1 - self.left_s / self._seconds)
