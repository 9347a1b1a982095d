"""Jobs and the bytes they work on, written down so that they survive the process.

Two tables of the store: `jobs`, a row for each, and `uploads`, content-addressed. They are where
the documents are, so whoever takes over after a crash, perhaps on another machine, has them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any

import lancedb
import pyarrow as pa

from rag_graph.errors import NotFoundError, StoreError
from rag_graph.ingest.job import Job
from rag_graph.retrieval import schema
from rag_graph.retrieval.boundary import store_errors
from rag_graph.retrieval.locks import WriterLock
from rag_graph.retrieval.maintenance import compact
from rag_graph.retrieval.store import Store

PAUSE_S = 0.5
"""Seconds for which news that nobody waits for may be written late: a crash repeats that work."""
COMPACT_EVERY = 64
"""Writes between two compactions."""
HOT_BYTES = 16 * 2**20
"""Most of the uploads that are kept in memory until their jobs have ended."""
KEEP_VERSIONS_S = 60.0
KEEP_JOBS_S = 7 * 24 * 3600.0
"""Seconds for which an ended job is remembered."""
QUOTED_NOTHING = "''"
_COLUMNS = [field.name for field in fields(Job) if field.name in schema.JOBS.names]


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Accepted:
    """A job and its upload on their way to being safe."""

    job: Job
    content: bytes
    written: asyncio.Future[None]


class Journal:
    """What comes while something is being written goes together, with one commit for all uploads
    and one for all jobs of that moment."""

    def __init__(
        self, jobs: lancedb.AsyncTable, uploads: lancedb.AsyncTable, lock: WriterLock
    ) -> None:
        self._jobs = jobs
        self._uploads = uploads
        self._lock = lock
        """Held while the tables are written: compaction drops files that no commit knows of, and
        another process's commit must not be under way then."""
        self._accepted: list[_Accepted] = []
        self._news: dict[str, Job] = {}
        self._uses: Counter[str] = Counter()
        """How many jobs that have not ended need an upload."""
        self._unneeded: set[str] = set()
        self._hot: dict[str, bytes] = {}
        """Uploads that need not be read, since they just came."""
        self._urgent = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None
        self._writes = 0

    @classmethod
    async def open(cls, store: Store, store_uri: str) -> Journal:
        """Return the journal of a store, its tables made if they are not there.

        Raises:
            StoreError: the store cannot be read or written.
        """
        lock = WriterLock(store_uri, "journal")
        with store_errors("open the jobs"):
            async with lock.held():
                jobs = await store.table(schema.JOBS_TABLE, schema.JOBS)
                uploads = await store.table(schema.UPLOADS_TABLE, schema.UPLOADS)
        return cls(jobs, uploads, lock)

    async def read(self) -> list[Job]:
        """Return the jobs there are, the eldest first; drop uploads that none of them needs.

        Raises:
            StoreError: the store cannot be read or written.
        """
        with store_errors("read the jobs"):
            async with self._lock.held():
                return await self._read()

    async def _read(self) -> list[Job]:
        await self._jobs.delete(f"updated_at < {time.time() - KEEP_JOBS_S} AND {_ENDED}")
        rows = (await self._jobs.query().select(_COLUMNS).to_arrow()).to_pylist()
        jobs = sorted((Job(**row) for row in rows), key=lambda job: job.created_at)
        self._uses.update(job.upload for job in jobs if not job.ended and job.upload)
        if await self._uploads.count_rows(unused := f"NOT ({_among(self._uses)})"):
            await self._uploads.delete(unused)
        await self._compact()
        return jobs

    async def content(self, sha256: str) -> bytes:
        """Return the bytes of an upload.

        Raises:
            NotFoundError: they are not there.
            StoreError: the store cannot be read.
        """
        if sha256 in self._hot:
            return self._hot[sha256]
        with store_errors("read an upload"):
            query = self._uploads.query().where(_among([sha256])).limit(1)
            found = await query.select(["content"]).to_arrow()
        if not found.num_rows:
            raise NotFoundError("The uploaded bytes are gone. Upload the document again.")
        content: bytes = found["content"][0].as_py()
        return content

    async def accept(self, job: Job, content: bytes) -> None:
        """Return once `job` and `content` are safe.

        Raises:
            StoreError: the store cannot be written.
        """
        accepted = _Accepted(job, content, asyncio.get_running_loop().create_future())
        self._accepted.append(accepted)
        self._urgent.set()
        self._wake()
        await asyncio.shield(accepted.written)

    def note(self, job: Job) -> None:
        """Have the state of `job` written soon, and its upload dropped if it has ended."""
        self._news[job.id] = job
        if job.ended and job.upload:
            self._uses[job.upload] -= 1
            if self._uses[job.upload] <= 0:
                del self._uses[job.upload]
                self._hot.pop(job.upload, None)
                self._unneeded.add(job.upload)
        self._wake()

    async def aclose(self) -> None:
        """Write what is not yet written.

        Raises:
            StoreError: the store cannot be written.
        """
        self._urgent.set()
        if self._writing is not None:
            await self._writing
        if self._news:
            await self._write([])

    def _wake(self) -> None:
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._work())

    async def _work(self) -> None:
        """Write until there is nothing left to write, or it cannot be written."""
        failed = False
        while self._accepted or (not failed and (self._news or self._unneeded)):
            if not self._accepted:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._urgent.wait(), PAUSE_S)
            self._urgent.clear()
            accepted, self._accepted = self._accepted, []
            try:
                await self._write(accepted)
            except StoreError as error:
                failed = True
                _fail(accepted, error)
            else:
                failed = False
                for one in accepted:
                    if not one.written.done():
                        one.written.set_result(None)
                await self._compact_at_times()

    async def _write(self, accepted: list[_Accepted]) -> None:
        news, self._news = self._news, {}
        unneeded, self._unneeded = self._unneeded, set()
        try:
            with store_errors("write down the jobs"):
                async with self._lock.held():
                    await self._write_uploads([one for one in accepted if one.job.upload])
                    await self._write_jobs({one.job.id: one.job for one in accepted} | news)
                    self._use([one for one in accepted if one.job.upload])
                    if unneeded := unneeded - self._uses.keys():
                        await self._uploads.delete(_among(unneeded))
        except StoreError:
            self._news = news | self._news
            self._unneeded |= unneeded
            raise

    async def _write_uploads(self, accepted: list[_Accepted]) -> None:
        contents = {one.job.upload: one.content for one in accepted}
        new = contents.keys() - self._uses.keys()
        if new:
            rows = [{"sha256": sha256, "content": contents[sha256]} for sha256 in sorted(new)]
            await self._uploads.add(pa.Table.from_pylist(rows, schema=schema.UPLOADS))

    def _use(self, accepted: list[_Accepted]) -> None:
        for one in accepted:
            self._uses[one.job.upload] += 1
            if sum(map(len, self._hot.values())) + len(one.content) <= HOT_BYTES:
                self._hot[one.job.upload] = one.content

    async def _write_jobs(self, jobs: dict[str, Job]) -> None:
        if not jobs:
            return
        merge = self._jobs.merge_insert("id").when_matched_update_all()
        merge = merge.when_not_matched_insert_all()
        rows = [_row(job) for job in jobs.values()]
        await merge.execute(pa.Table.from_pylist(rows, schema=schema.JOBS))

    async def _compact_at_times(self) -> None:
        self._writes += 1
        if self._writes % COMPACT_EVERY == 0:
            try:
                with store_errors("compact the jobs"):
                    async with self._lock.held():
                        await self._compact()
            except StoreError as error:  # nothing is lost by it; the next one may succeed
                logger.warning("%s", error)

    async def _compact(self) -> None:
        for table in (self._jobs, self._uploads):
            await compact(table, KEEP_VERSIONS_S)


_ENDED = "status IN ('done', 'failed', 'cancelled')"


def _row(job: Job) -> dict[str, Any]:
    return {name: getattr(job, name) for name in _COLUMNS}


def _among(sha256s: Iterable[str]) -> str:
    return f"sha256 IN ({', '.join(map(schema.quote, sorted(sha256s))) or QUOTED_NOTHING})"


def _fail(accepted: list[_Accepted], error: StoreError) -> None:
    for one in accepted:
        if not one.written.done():
            one.written.set_exception(error)
            one.written.exception()  # seen, also when nobody waits any more
