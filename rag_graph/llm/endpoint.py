"""One endpoint as the pool sees it: how busy, how healthy. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from contracts.errors import Code
from rag_graph.errors import LLMError, LLMUnavailableError
from rag_graph.llm.client import LLMClient

FAILURES_TO_OPEN = 3
"""Failures in a row after which an endpoint is left alone."""
OPEN_S = 10.0
"""Seconds for which it is left alone; then it has to pass a probe."""
ONLY_OPEN_S = 1.0
"""The most seconds for the only endpoint there is: that it is well again has to show soon."""
FULL = frozenset({Code.RATE_LIMITED, Code.OVERLOADED})
"""Codes by which an endpoint refuses one request, and may take the next."""


@dataclass(eq=False, slots=True)
class Endpoint:
    """A client, and what the pool knows of it. Times are the event loop's, in seconds."""

    client: LLMClient
    only: bool = False
    """Whether there is no other, for no model."""
    outstanding: int = 0
    uses: int = 0
    failures: int = 0
    closed_until: float = 0.0
    """Nothing is sent before this time."""
    failure: LLMError | None = None
    """The latest."""

    @property
    def suspect(self) -> bool:
        """Whether it has to pass a probe before the next request."""
        return self.failures >= FAILURES_TO_OPEN

    def is_open(self, now: float) -> bool:
        """Whether it can be asked first: a suspect one is found well again by one request."""
        return self.closed_until <= now and not (self.suspect and self.outstanding)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Count a request while it runs."""
        self.outstanding += 1
        self.uses += 1
        try:
            yield
        finally:
            self.outstanding -= 1

    def succeeded(self) -> None:
        """Forget its failures."""
        self.failures = 0
        self.closed_until = 0.0

    def failed(self, now: float, error: LLMError) -> None:
        """Note a failure: too many, or its own wish, close it for a while.

        That the only endpoint is full concerns the one request alone.
        """
        if self.only and error.code in FULL:
            return
        self.failures += 1
        self.failure = error
        if error.retry_after is None and not self.suspect:
            return
        wished_s = OPEN_S if error.retry_after is None else error.retry_after
        self.closed_until = now + (min(wished_s, ONLY_OPEN_S) if self.only else wished_s)

    def refusal(self) -> LLMError:
        """Return the error for a request that is not sent, since the endpoint is closed."""
        error = self.failure or LLMUnavailableError("The LLM service failed lately.")
        return LLMUnavailableError(error.message, error.code, None, error.retry_after)


def pick(endpoints: Iterable[Endpoint], now: float) -> Endpoint | None:
    """Return the open endpoint with the fewest outstanding requests, or None if all are closed.

    Of equals, the one with the fewest failures, then the least used. One that failed repeatedly is
    tried by one request at a time, if there are others.
    """
    opened = [e for e in endpoints if e.closed_until <= now]
    return min(
        opened,
        key=lambda e: (not e.is_open(now), e.outstanding, e.failures, e.uses),
        default=None,
    )
