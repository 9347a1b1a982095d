"""How much the LLM service can take: a limit on this replica's requests. No clock, no I/O.

Learned from the load that the service reports with each answer (`contracts.headers.Load`), for all
of its endpoints together. Beyond what an endpoint generates at once, its *batch*, requests only
wait there; they had better wait here, where tenants share fairly. So all gateways together should
have the batch there, and this one what the others leave of it. A place that falls free is empty
for one round trip, which is little beside an answer.

The batch is not reported, but it shows: while something waits, what runs is the batch. A burst can
show too little (its sequences wait for the next step), so one window of reports lowers the estimate
by a fifth at most. While nothing waits and the limit is reached, it grows by an eighth a window;
once it was seen full, not before `PATIENCE` windows, since growing has to make something wait.

A service that reports nothing is given up to the ceiling.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from contracts.headers import Load

FIRST = 16
"""The batch of an endpoint before it has shown another."""
WINDOW_S = 0.5
KEPT = 0.8
STEP = 8
"""The batch grows by one for this many."""
PATIENCE = 10


@dataclass(slots=True)
class _Endpoint:
    load: Load
    batch: int = FIRST
    full_with: int = 0
    """The most that ran while something waited, in this window."""
    patience: int = 0
    """Windows before it may grow again."""

    def see(self, load: Load) -> None:
        self.load = load
        self.batch = max(self.batch, load.running)
        if load.waiting:
            self.full_with = max(self.full_with, load.running)

    def end_window(self, *, grow: bool) -> None:
        if self.full_with:
            self.batch = max(1, self.full_with, int(self.batch * KEPT))
            self.patience = PATIENCE
        elif self.patience:
            self.patience -= 1
        elif grow:
            self.batch += max(1, self.batch // STEP)
        self.full_with = 0


class LLMLimit:
    """The limit for one gateway replica."""

    def __init__(self, ceiling: int) -> None:
        self._ceiling = ceiling
        self._endpoints: dict[str, _Endpoint] = {}
        self._window_ends = 0.0
        self.value = min(FIRST, ceiling)

    def observe(self, url: str, load: Load | None, mine: int, now: float) -> None:
        """Take in what the endpoint at `url` reported.

        Args:
            url: which endpoint.
            load: what it said; None: it says nothing.
            mine: requests of this replica that run now.
            now: seconds on any steady clock.
        """
        if load is None:
            self.value = self._ceiling
            return
        self._endpoints.setdefault(url, _Endpoint(load)).see(load)
        if now >= self._window_ends:
            self._window_ends = now + WINDOW_S
            for endpoint in self._endpoints.values():
                endpoint.end_window(grow=mine >= self.value)
        others = max(0, self._total(lambda e: e.load.in_flight) - mine)
        most = min(self._total(lambda e: e.batch), self._total(lambda e: e.load.capacity))
        self.value = max(1, min(most - others, self._ceiling))

    def _total(self, figure: Callable[[_Endpoint], int]) -> int:
        return sum(map(figure, self._endpoints.values()))
