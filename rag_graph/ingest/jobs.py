"""The jobs of a store: taken, done, and remembered.

    queued -> parsing -> embedding -> indexing -> done
                                               -> failed, with a reason
                                               -> cancelled

A job is safe in the store before its client hears of it. Whoever opens the store after a crash
does what was not done; a document that had gone in by then is found unchanged, so doing it again
costs next to nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from typing import Any

from rag_graph.errors import BusyError, InvalidQueryError, NotFoundError
from rag_graph.ingest.book import Book, Entry
from rag_graph.ingest.job import INTERRUPTED, Job, touches
from rag_graph.ingest.journal import Journal
from rag_graph.ingest.migrate import migrate
from rag_graph.ingest.pipeline import Ingestor, Progress, document_key
from rag_graph.ingest.workshop import Report, Workshop
from rag_graph.retrieval.embedder import Embedders, open_embedders
from rag_graph.retrieval.locks import ProcessLock
from rag_graph.retrieval.schema import check_name
from rag_graph.retrieval.store import Store
from rag_graph.settings import RagSettings
from rag_graph.state import DocumentReport


class Jobs:
    """All jobs of a store. Of the processes that open them one does them, the others wait."""

    def __init__(self, store: Store, embedders: Embedders, settings: RagSettings) -> None:
        self._store = store
        self._embedders = embedders
        self._settings = settings
        self._ingestor = Ingestor(store, embedders, settings)
        self._book = Book(on_stage=lambda job: self._journal.note(job))
        self._workshop = Workshop(self._book, self._do, settings.ingest_documents)
        self._turn = ProcessLock(settings.store_uri, "jobs")
        self._ours = False
        """Whether it is this process that does the jobs."""
        self._taking_over: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, settings: RagSettings) -> Jobs:
        """Load the embedders, connect to the store, and go on with what was not done.

        Raises:
            EmbedderError: an embedding model cannot be loaded.
            StoreError: the store cannot be read or written.
        """
        store, embedders = await asyncio.gather(
            Store.open(settings, writes=True), open_embedders(settings)
        )
        jobs = cls(store, embedders, settings)
        await jobs.start()
        return jobs

    async def start(self) -> None:
        """Take jobs from now on, and do them once no other process does.

        Raises:
            StoreError: the store cannot be read or written.
        """
        self._journal = await Journal.open(self._store, self._settings.store_uri)
        if self._turn.acquire():
            await self._take_over()
        else:
            self._taking_over = asyncio.create_task(self._take_over_later())

    async def aclose(self) -> None:
        """Stop working: what is being indexed is finished, the rest is left to the next process."""
        if self._taking_over is not None:
            self._taking_over.cancel()
            await asyncio.wait([self._taking_over])
        await self._workshop.aclose()
        await self._journal.aclose()
        await self._ingestor.aclose()
        self._turn.release()

    async def submit(self, tenant: str, name: str, content: bytes, collection: str) -> Job:
        """Return the job that puts a document in, queued and safe; ended where nothing is to do.

        The same document once more, while its job has not ended, is that job.

        Raises:
            DocumentTooLargeError: it is too large.
            InvalidQueryError: `collection` cannot name a collection.
            BusyError: too many jobs of the tenant wait.
            StoreError: the store cannot be read or written.
        """
        check_name(collection)
        self._ingestor.check_size(name, content)
        upload = await asyncio.to_thread(_digest, content)
        job = _new("document", tenant, collection, name, upload=upload, bytes=len(content))
        pending = self._book.touching(touches(job))
        if pending:
            last = pending[-1].job
            if (last.upload, last.tenant) == (upload, tenant):
                return self._workshop.timed(last)
        elif report := await self._ingestor.unchanged(name, content, collection):
            done = _new("document", tenant, collection, name, status="done", result="unchanged")
            entry = self._book.add(done)
            self._book.update(entry, **_stored(report.document_id, report.chunks))
            self._journal.note(entry.job)
            return entry.job
        return await self._accept(job, content)

    async def re_embed(self, tenant: str, collection: str, embedder: str) -> Job:
        """Return the job that changes a collection's embedder; empty: back to the earlier one.

        Raises:
            CollectionNotFoundError: there is no such collection.
            InvalidQueryError: there is no such embedder, or none to go back to.
            BusyError: too many jobs of the tenant wait.
            StoreError: the store cannot be read or written.
        """
        info = (await self._store.collection(collection)).info
        if not embedder:
            if info.previous is None:
                raise InvalidQueryError(
                    f"Collection {collection!r} has had no other embedder to go back to.",
                    None,
                    "collection",
                )
            embedder, _ = await self._store.made_for(info, info.previous)
        job = _new("embedder", tenant, collection, self._embedders.known(embedder).name)
        pending = self._book.touching(touches(job))
        if pending and (pending[-1].job.name, pending[-1].job.tenant) == (embedder, tenant):
            return pending[-1].job
        return await self._accept(job, b"")

    def of(self, tenant: str) -> list[Job]:
        """Return a tenant's jobs, the latest first."""
        return [self._workshop.timed(job) for job in self._book.of(tenant)]

    def one(self, tenant: str, job_id: str) -> Job:
        """Return a tenant's job.

        Raises:
            NotFoundError: the tenant has none of that id.
        """
        return self._workshop.timed(self._book.entry(job_id, tenant).job)

    async def news(self, tenant: str, job_id: str, seen: float, timeout_s: float) -> Job:
        """Return a job as soon as it is another than at its time `seen`, or has ended.

        After `timeout_s` seconds it is returned as it is.

        Raises:
            NotFoundError: the tenant has none of that id.
        """
        entry = self._book.entry(job_id, tenant)
        return self._workshop.timed(await self._book.news(entry, seen, timeout_s))

    async def ended(self, tenant: str, job_id: str, timeout_s: float) -> Job:
        """Return a job once it has ended, or after `timeout_s` seconds.

        Raises:
            NotFoundError: the tenant has none of that id.
        """
        deadline = time.monotonic() + timeout_s
        job = self.one(tenant, job_id)
        while not job.ended and (left := deadline - time.monotonic()) > 0:
            job = await self.news(tenant, job_id, job.updated_at, left)
        return job

    async def cancel(self, tenant: str, job_id: str) -> Job:
        """Cancel a job, and return it: cancelled, or done if it was being indexed or had ended.

        Raises:
            NotFoundError: the tenant has none of that id.
        """
        entry = self._book.entry(job_id, tenant)
        await self._workshop.stop(entry)
        return entry.job

    async def create_collection(
        self, name: str, embedder: str | None, chunk_tokens: int | None
    ) -> None:
        """Make a collection. None takes what RAG_EMBEDDER_… and RAG_CHUNK_TOKENS say.

        Raises:
            CollectionExistsError: there is one of that name.
            InvalidQueryError: the name, the embedder or the size cannot be.
            StoreError: the store cannot be written.
        """
        model = self._embedders.known(embedder) if embedder else self._embedders.default
        size = chunk_tokens or self._settings.chunk_tokens
        if size > model.max_tokens:
            raise InvalidQueryError(
                f"{model.name} reads {model.max_tokens} tokens at most; choose smaller chunks.",
                None,
                "chunk_tokens",
            )
        await self._store.new_collection(name, model, size)

    async def delete_document(self, collection: str, document_id: str) -> None:
        """Delete a document, and cancel what is on its way into it.

        Raises:
            NotFoundError: there is no such document, or no such collection.
            StoreError: the store cannot be written.
        """
        coming = [
            entry
            for entry in self._book.unended()
            if entry.job.kind == "document"
            and entry.job.collection == collection
            and document_key(entry.job.name) == document_id
        ]
        for entry in coming:
            await self._workshop.stop(entry)
        try:
            await self._ingestor.delete(document_id, collection)
        except NotFoundError:
            if not coming:
                raise

    async def delete_collection(self, collection: str) -> None:
        """Delete a collection, and cancel what is on its way into it.

        Raises:
            CollectionNotFoundError: there is no such collection.
            StoreError: the store cannot be written.
        """
        await self._store.collection(collection)
        for entry in self._book.unended():
            if entry.job.collection == collection:
                await self._workshop.stop(entry)
        await self._store.delete(collection)

    async def _accept(self, job: Job, content: bytes) -> Job:
        limit = self._settings.max_waiting_jobs
        if self._workshop.waiting(job.tenant) >= limit:
            message = f"{limit} jobs of yours are waiting already; send more when some are done."
            raise BusyError(message, None, None, self._workshop.seconds_for_room())
        await self._journal.accept(job, content)
        entry = self._book.add(job)
        if self._ours:
            self._workshop.join(entry)
        return self._workshop.timed(entry.job)

    async def _take_over_later(self) -> None:
        await self._turn.wait()
        await self._take_over()

    async def _take_over(self) -> None:
        for job in await self._journal.read():
            if job.id not in self._book:
                self._book.add(job)
        for info in await self._store.collections():
            await (await self._store.version(info)).end_deletions()
        for line in self._book.lines():
            await self._skip_stored(line)
        self._ours = True
        for entry in self._book.unended():
            self._book.update(entry, status=INTERRUPTED, chunks_done=0, chunks_total=None)
            self._workshop.join(entry)

    async def _skip_stored(self, line: list[Entry]) -> None:
        """End the jobs of one document up to the last whose content is stored.

        They were done, but the news was lost with the process; done again, in their order, they
        would take the document back to what it was.
        """
        for last in range(len(line) - 1, 0, -1):
            if report := await self._stored_by(line[last].job):
                for entry in line[: last + 1]:
                    said = _stored(report.document_id, report.chunks)
                    self._book.update(entry, status="done", result="unchanged", **said)
                return

    async def _stored_by(self, job: Job) -> DocumentReport | None:
        """Return a report if what `job` puts in is stored just so."""
        if job.kind != "document":
            return None
        content = await self._journal.content(job.upload)
        return await self._ingestor.unchanged(job.name, content, job.collection)

    async def _do(self, job: Job, report: Report) -> dict[str, Any]:
        return await (self._embed_anew if job.kind == "embedder" else self._ingest)(job, report)

    async def _ingest(self, job: Job, report: Report) -> dict[str, Any]:
        report(status="parsing")
        content = await self._journal.content(job.upload)
        done = await self._ingestor.ingest(job.name, content, job.collection, _follow(report))
        return {"result": done.status, **_stored(done.document_id, done.chunks)}

    async def _embed_anew(self, job: Job, report: Report) -> dict[str, Any]:
        report(status="embedding")
        follow, seen = _follow(report), [0]

        def on_chunks(done: int, total: int) -> None:
            seen[0] = max(seen[0], total)
            follow(Progress("embedding", done, total))

        embedder = self._embedders.known(job.name)
        await migrate(self._store, job.collection, embedder, on_chunks)
        return {"chunks_done": seen[0], "chunks_total": seen[0]}


def _follow(report: Report) -> Any:
    """Return what reports the progress of a document or a collection."""
    began: list[float] = []

    def follow(now: Progress) -> None:
        if now.stage == "parsing":
            report(status="parsing", chunks_done=0, chunks_total=None)
            return
        began.append(time.monotonic())
        spent = began[-1] - began[0]
        eta = spent / now.done * (now.total - now.done) if now.done and spent else None
        report(status=now.stage, chunks_done=now.done, chunks_total=now.total, eta_s=eta)

    return follow


def _stored(document_id: str, chunks: int) -> dict[str, Any]:
    return {"document_id": document_id, "chunks_done": chunks, "chunks_total": chunks}


def _new(kind: Any, tenant: str, collection: str, name: str, **more: Any) -> Job:
    now = time.time()
    return Job(f"job-{uuid.uuid4().hex}", kind, tenant, collection, name, now, now, **more)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
