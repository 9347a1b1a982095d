"""Where jobs are done: so many side by side, tenants in turn, each job to its end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from rag_graph.errors import RagError
from rag_graph.ingest.book import Book, Entry, Task
from rag_graph.ingest.job import Job
from rag_graph.ingest.line import Line
from rag_graph.ingest.pace import Pace

BYTES_AT_WORK = 64 * 2**20
"""Documents worked on at the same time hold no more than this, but for one that is larger."""

logger = logging.getLogger(__name__)

Report = Callable[..., None]
"""Called with what has changed in a job."""
Do = Callable[[Job, Report], Any]
"""Does a job; a coroutine that returns what is then true of it."""


class Workshop:
    """Does the jobs that join its line."""

    def __init__(self, book: Book, do: Do, places: int) -> None:
        """`places`: jobs done at the same time."""
        self._book = book
        self._do = do
        self._places = places
        self._line = Line()
        self._pace = Pace()
        self._working: set[Task] = set()
        self._bytes = 0
        self._open = True

    def join(self, entry: Entry) -> None:
        """Have a job done when it is its turn."""
        self._line.join(entry.job)
        self._pace.joined(entry.job)
        self._fill()

    def waiting(self, tenant: str) -> int:
        """Return how many jobs of a tenant wait."""
        return self._line.of(tenant)

    def seconds_for_room(self) -> float:
        """Return the seconds after which there is room for more, as far as can be judged."""
        return self._pace.seconds(BYTES_AT_WORK) or 1.0

    def timed(self, job: Job) -> Job:
        """Return the job with the time that it will take, as far as can be judged."""
        if job.status in {"queued", "parsing"}:
            return replace(job, eta_s=self._pace.eta(job))
        return job

    async def stop(self, entry: Entry) -> None:
        """Cancel a job unless it is too late, and return when nothing is done to it any more."""
        if entry.task is not None:
            await asyncio.wait([_cancel(entry.task, entry.job)])
        elif not entry.job.ended:
            self._line.leave(entry.job)
            self._pace.left(entry.job)
            self._book.update(entry, status="cancelled", eta_s=None)

    async def aclose(self) -> None:
        """Stop: documents that are being indexed are finished, the other jobs stay unended."""
        self._open = False
        at_work = [entry for entry in self._book.unended() if entry.task is not None]
        tasks = [_cancel(entry.task, entry.job) for entry in at_work if entry.task is not None]
        if tasks:
            await asyncio.wait(tasks)

    def _fill(self) -> None:
        """Begin as many jobs as there is room for."""
        while self._open and len(self._working) < self._places:
            job = self._line.next(BYTES_AT_WORK - self._bytes if self._working else None)
            if job is None:
                return
            entry = self._book.entry(job.id)
            entry.task = asyncio.create_task(self._outcome(entry))
            # Not in the task itself: cancelled before its first step, it runs no line.
            entry.task.add_done_callback(partial(self._ended, entry, time.monotonic()))
            self._working.add(entry.task)
            self._bytes += job.bytes

    def _ended(self, entry: Entry, started: float, task: Task) -> None:
        """Free what a job held, note its end, and begin others."""
        job = entry.job
        self._working.discard(task)
        self._bytes -= job.bytes
        self._line.finished(job)
        self._pace.finished(job, started)
        entry.task = None
        if not task.cancelled():
            self._book.update(entry, eta_s=None, **task.result())
        elif self._open:
            self._book.update(entry, eta_s=None, status="cancelled")
        self._fill()

    async def _outcome(self, entry: Entry) -> dict[str, Any]:
        try:
            done: dict[str, Any] = await self._do(
                entry.job, lambda **changes: self._book.update(entry, **changes)
            )
        except RagError as error:
            return {"status": "failed", "error": str(error), "error_code": error.code}
        except Exception:
            logger.exception("Job %s failed", entry.job.id)
            message = f"The job failed; the ingestor's log has the reason under {entry.job.id}."
            return {"status": "failed", "error": message, "error_code": RagError.default_code}
        return {"status": "done", **done}


def _cancel(task: Task, job: Job) -> Task:
    """Cancel what does `job`, but not amid its commit: stored is then what the job says it is."""
    if job.status != "indexing":
        task.cancel()
    return task
