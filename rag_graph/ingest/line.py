"""Whose turn it is: tenants take turns, and no two jobs touch one document at the same time."""

from __future__ import annotations

from collections import OrderedDict

from rag_graph.ingest.job import Job, Key, touches


class Line:
    """Jobs that wait."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, OrderedDict[str, Job]] = OrderedDict()
        """By tenant, whose turn is next first; of a tenant by job id, the eldest first."""
        self._busy: set[Key] = set()

    def of(self, tenant: str) -> int:
        """Return how many jobs of a tenant wait."""
        return len(self._waiting.get(tenant, ()))

    def join(self, job: Job) -> None:
        """Have `job` wait."""
        self._waiting.setdefault(job.tenant, OrderedDict())[job.id] = job

    def leave(self, job: Job) -> bool:
        """Have `job` wait no more; False if it did not."""
        jobs = self._waiting.get(job.tenant, OrderedDict())
        found = jobs.pop(job.id, None)
        if not jobs:
            self._waiting.pop(job.tenant, None)
        return found is not None

    def next(self, room: int | None) -> Job | None:
        """Take the next job whose document no other one has, if it has at most `room` bytes."""
        for tenant in list(self._waiting):
            for job in self._waiting[tenant].values():
                if touches(job) not in self._busy:
                    break
            else:
                continue
            if room is not None and job.bytes > room:
                return None  # it waits for room, and everybody behind it too
            self._waiting.move_to_end(tenant)
            self.leave(job)
            self._busy.add(touches(job))
            return job
        return None

    def finished(self, job: Job) -> None:
        """Free what `job` worked on."""
        self._busy.discard(touches(job))
