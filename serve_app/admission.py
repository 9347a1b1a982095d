"""Admission of LLM work: at once, in its tenant's turn, or refused at once.

Every request that will need the LLM service passes here first, also before it retrieves: what is
refused costs next to nothing. Who is next is `fair_queue`'s to say, how many at once `llm_limit`'s;
this file only adds clocks and waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from contracts.errors import Code
from contracts.headers import Load
from serve_app.errors import BusyError, RequestError, ServeAppError
from serve_app.fair_queue import FairQueue, Ticket
from serve_app.llm_limit import LLMLimit
from serve_app.metrics import Metrics

SMOOTHING = 0.1
"""Weight of the newest ended request in the mean time between two of them."""
LEAST_RETRY_AFTER_S = 1.0


class Admission:
    """One replica's gate in front of the LLM service."""

    def __init__(
        self, ceiling: int, max_waiting: int, max_wait_s: float, metrics: Metrics | None = None
    ) -> None:
        """Make a gate.

        Args:
            ceiling: most requests that this replica ever has at the LLM service.
            max_waiting: most that wait here.
            max_wait_s: longest that one waits here, seconds.
            metrics: where to count what is refused.
        """
        self._queue = FairQueue(max_waiting)
        self._limit = LLMLimit(ceiling)
        self._max_wait_s = max_wait_s
        self._granted: dict[Ticket, asyncio.Future[None]] = {}
        self._gap_s: float | None = None
        """Mean seconds between two requests that end, while others wait."""
        self._ended_at = 0.0
        """When the last one ended, or the first began to wait."""
        self.metrics = metrics or Metrics()
        self.metrics.watch_admission(
            lambda: (self._queue.running, self._queue.waiting, self._limit.value),
            self._queue.by_tenant,
        )

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return self._queue.waiting

    def observe(self, url: str, load: Load | None) -> None:
        """Take in the load that an endpoint of the LLM service reported."""
        before = self._limit.value
        self._limit.observe(url, load, self._queue.running, _now())
        if self._limit.value > before:
            self._start()

    @asynccontextmanager
    async def admit(self, tenant: str, weight: float, timeout_s: float) -> AsyncIterator[float]:
        """Hold a slot for one request; yields the seconds of `timeout_s` that are left.

        Raises:
            RequestError: the tenant has more than its share waiting (429).
            BusyError: too many wait, or it waited too long (503).
        """
        began = _now()
        ticket = Ticket(tenant, weight)
        await self._turn(ticket, min(timeout_s, self._max_wait_s))
        try:
            yield max(0.001, timeout_s - (_now() - began))
        finally:
            self._finish(ticket)

    async def _turn(self, ticket: Ticket, patience_s: float) -> None:
        expected = self._expected_wait_s()
        if self._queue.waiting and expected > patience_s and self._queue.is_alone(ticket.tenant):
            raise self._refusal(ticket, "too_long")
        if not self._queue.waiting:
            self._ended_at = _now()
        granted = self._granted[ticket] = asyncio.get_running_loop().create_future()
        room = max(0, self._limit.value - self._queue.running)
        self._refuse(self._queue.offer(ticket, room))
        self._start()
        try:
            async with asyncio.timeout(patience_s):
                await granted
        except TimeoutError:
            self._abandon(ticket, granted)
            raise self._refusal(ticket, "waited") from None
        except asyncio.CancelledError:
            self._abandon(ticket, granted)
            raise

    def _refuse(self, ticket: Ticket | None) -> None:
        if ticket is not None and not (granted := self._granted.pop(ticket)).cancelled():
            granted.set_exception(self._refusal(ticket, "full"))

    def _start(self) -> None:
        """Start what may start."""
        while self._queue.running < self._limit.value and (ticket := self._queue.start()):
            granted = self._granted.pop(ticket)
            if granted.cancelled():  # its client went away in this moment
                self._queue.finish(ticket)
            else:
                granted.set_result(None)

    def _abandon(self, ticket: Ticket, granted: asyncio.Future[None]) -> None:
        """Give back what `ticket` has: its place in the queue, or a slot got in this moment."""
        if self._granted.pop(ticket, None) is not None:
            self._queue.leave(ticket)
        elif not granted.cancelled() and granted.exception() is None:
            self._finish(ticket)

    def _finish(self, ticket: Ticket) -> None:
        now = _now()
        if self._queue.waiting:
            gap = now - self._ended_at
            known = gap if self._gap_s is None else self._gap_s
            self._gap_s = known + SMOOTHING * (gap - known)
        self._ended_at = now
        self._queue.finish(ticket)
        self._start()

    def _expected_wait_s(self) -> float:
        """Return how long the last in the queue will have waited, at the latest pace."""
        return (self._queue.waiting + 1) * (self._gap_s or 0.0)

    def _refusal(self, ticket: Ticket, reason: str) -> ServeAppError:
        self.metrics.refused.labels(reason).inc()
        wait = max(LEAST_RETRY_AFTER_S, self._expected_wait_s())
        if reason == "waited":
            message = f"No model was free within the time allowed; try again in {wait:.0f} s."
            return BusyError(message, None, None, wait)
        if self._queue.is_alone(ticket.tenant):
            message = f"Too many questions wait for the model; try again in {wait:.0f} s."
            return BusyError(message, None, None, wait)
        message = f"More of your questions wait than is your share; try again in {wait:.0f} s."
        return RequestError(message, Code.RATE_LIMITED, None, wait)


def _now() -> float:
    return asyncio.get_running_loop().time()
