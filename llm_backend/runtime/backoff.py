"""How long to wait before the engine is started again."""

from __future__ import annotations

STABLE_S = 60.0
"""An engine that lived this long was well: its death starts the count anew."""


class Backoff:
    """Doubles from `first_s` to `most_s` while starts keep failing."""

    def __init__(self, first_s: float, most_s: float) -> None:
        self._first = first_s
        self._most = most_s
        self._next = first_s

    def after(self, lived_s: float) -> float:
        """Return the pause, in seconds, after an engine that lived for `lived_s`."""
        if lived_s >= STABLE_S:
            self._next = self._first
        pause = min(self._next, self._most)
        self._next = pause * 2
        return pause
