"""How fast the jobs go, and so how long one that waits still has to."""

from __future__ import annotations

import time
from collections.abc import Callable

from rag_graph.ingest.job import Job

FADING = 0.95
"""What an earlier job counts for, one job later."""


class Pace:
    """Measures bytes of documents done a second, over all jobs that run side by side."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._seconds = 0.0
        self._done_bytes = 0.0
        self._last = 0.0
        self._joined = 0
        self._gone = 0
        self._places: dict[str, int] = {}
        """By job that has not ended: the bytes that had joined with it."""

    def joined(self, job: Job) -> None:
        """Note a job that waits from now on."""
        self._joined += job.bytes
        self._places[job.id] = self._joined

    def left(self, job: Job) -> None:
        """Note a job that ended without having been worked on."""
        if self._places.pop(job.id, None) is not None:
            self._gone += job.bytes

    def finished(self, job: Job, started: float) -> None:
        """Note a job that was begun at `started` and has ended."""
        self.left(job)
        now = self._now()
        spent = now - max(started, self._last)
        self._last = now
        self._seconds = FADING * self._seconds + spent
        self._done_bytes = FADING * self._done_bytes + job.bytes

    def eta(self, job: Job) -> float | None:
        """Return the seconds until a job will have ended, or None where nothing is known."""
        place = self._places.get(job.id)
        return None if place is None else self.seconds(max(job.bytes, place - self._gone))

    def seconds(self, size: int) -> float | None:
        """Return the seconds that documents of `size` bytes take, or None."""
        return size * self._seconds / self._done_bytes if self._done_bytes else None
