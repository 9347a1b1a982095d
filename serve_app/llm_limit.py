"""How much the LLM service can take: a limit on this replica's requests. No clock, no I/O.

Learned from the load that the service reports with each answer (`contracts.headers.Load`), for all
of its replicas together:

* what its capacity leaves free bounds the limit at once;
* a *standing* queue there, one that never emptied for a window, is this gateway's to shrink by its
  share of it (CoDel's test for a bad queue: Nichols, Jacobson, ACM Queue 2012): requests that wait
  there would otherwise wait here, where tenants share fairly;
* while nothing waits there and the limit is reached, it grows by one with each answer.

A service that reports nothing is given up to the ceiling.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from contracts.headers import Load

FIRST = 16
"""The limit until the service has reported once."""
WINDOW_S = 0.5
SLACK = 8
"""One sequence may wait there for this many that run: a slot that falls free is filled at once."""


@dataclass(slots=True)
class _Endpoint:
    load: Load
    least_waiting: int


class LLMLimit:
    """The limit for one gateway replica."""

    def __init__(self, ceiling: int) -> None:
        self._ceiling = ceiling
        self._grown = min(FIRST, ceiling)
        self._endpoints: dict[str, _Endpoint] = {}
        self._window_ends = 0.0
        self.value = self._grown

    def observe(self, url: str, load: Load | None, mine: int, now: float) -> None:
        """Take in what the endpoint at `url` reported.

        Args:
            url: which endpoint.
            load: what it said; None: it says nothing.
            mine: requests of this replica that run now.
            now: seconds on any steady clock.
        """
        if load is None:
            self._grown = self.value = self._ceiling
            return
        seen = self._endpoints.setdefault(url, _Endpoint(load, load.waiting))
        seen.load, seen.least_waiting = load, min(seen.least_waiting, load.waiting)
        if now >= self._window_ends:
            self._end_window(mine, now)
        if self._total(lambda e: e.load.waiting) == 0 and mine >= self.value:
            self._grown = min(self._grown + 1, self._ceiling)
        self.value = max(1, min(self._grown, self._room(mine)))

    def _end_window(self, mine: int, now: float) -> None:
        self._window_ends = now + WINDOW_S
        standing = self._total(lambda e: e.least_waiting)
        in_flight = max(1, self._total(lambda e: e.load.in_flight))
        excess = standing - max(1, self._total(lambda e: e.load.running) // SLACK)
        if excess > 0:
            self._grown = max(1, mine - math.ceil(excess * min(1.0, mine / in_flight)))
        for endpoint in self._endpoints.values():
            endpoint.least_waiting = endpoint.load.waiting

    def _room(self, mine: int) -> int:
        free = self._total(lambda e: e.load.capacity - e.load.in_flight)
        return mine + max(0, free)

    def _total(self, figure: Callable[[_Endpoint], int]) -> int:
        values: Iterable[int] = map(figure, self._endpoints.values())
        return sum(values)
