"""Every job that is known, and who waits for news of it."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from rag_graph.errors import NotFoundError
from rag_graph.ingest.job import Job, Key, touches

Task = asyncio.Task[dict[str, Any]]
"""Does a job, and returns what is then true of it."""
MAX_ENDED = 20_000
"""Ended jobs that are remembered, the latest of them."""


@dataclass
class Entry:
    """A job as it is now."""

    job: Job
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when `job` is replaced by another."""
    task: Task | None = None
    """What does the job; None while nothing does."""
    started: float = 0.0


class Book:
    """Jobs by id and, while they have not ended, by what they touch."""

    def __init__(self, on_stage: Callable[[Job], None]) -> None:
        """`on_stage` is told of every job whose status is another than before."""
        self._on_stage = on_stage
        self._entries: dict[str, Entry] = {}
        self._unended: dict[Key, dict[str, Entry]] = defaultdict(dict)
        self._ended: dict[str, None] = {}

    def add(self, job: Job) -> Entry:
        """Enter a job."""
        entry = self._entries[job.id] = Entry(job)
        if job.ended:
            self._end(job)
        else:
            self._unended[touches(job)][job.id] = entry
        return entry

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._entries

    def of(self, tenant: str) -> list[Job]:
        """Return a tenant's jobs, the latest first."""
        jobs = [entry.job for entry in self._entries.values() if entry.job.tenant == tenant]
        return sorted(jobs, key=lambda job: job.created_at, reverse=True)

    def entry(self, job_id: str, tenant: str | None = None) -> Entry:
        """Return a job, of `tenant` if that is given.

        Raises:
            NotFoundError: there is none, or it is another's.
        """
        entry = self._entries.get(job_id)
        if entry is None or tenant not in {None, entry.job.tenant}:
            raise NotFoundError(f"There is no job {job_id!r}.")
        return entry

    def unended(self) -> list[Entry]:
        """Return the jobs that have not ended, the eldest first."""
        entries = [entry for some in self._unended.values() for entry in some.values()]
        return sorted(entries, key=lambda entry: entry.job.created_at)

    def lines(self) -> list[list[Entry]]:
        """Return the jobs that have not ended by what they touch, each list the eldest first."""
        return [list(entries.values()) for entries in self._unended.values()]

    def touching(self, key: Key) -> list[Entry]:
        """Return the jobs that have not ended and touch `key`, the eldest first."""
        return list(self._unended.get(key, {}).values())

    def update(self, entry: Entry, **changes: Any) -> None:
        """Put a job in another state."""
        before = entry.job
        entry.job = job = replace(before, **changes, updated_at=time.time())
        entry.changed.set()
        entry.changed = asyncio.Event()
        if job.ended and not before.ended:
            self._unended[touches(job)].pop(job.id, None)
            if not self._unended[touches(job)]:
                del self._unended[touches(job)]
            self._end(job)
        if job.status != before.status:
            self._on_stage(job)

    async def news(self, entry: Entry, seen: float, timeout_s: float) -> Job:
        """Return a job once it is another than at the time `seen`, has ended, or time is up."""
        try:
            async with asyncio.timeout(timeout_s):
                while entry.job.updated_at == seen and not entry.job.ended:
                    await entry.changed.wait()
        except TimeoutError:
            pass
        return entry.job

    def _end(self, job: Job) -> None:
        self._ended[job.id] = None
        while len(self._ended) > MAX_ENDED:
            del self._entries[next(iter(self._ended))]
            del self._ended[next(iter(self._ended))]
