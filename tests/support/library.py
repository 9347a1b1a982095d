"""A library in memory, for the routes' tests."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rag_graph.errors import CollectionExistsError, CollectionNotFoundError, NotFoundError, RagError
from rag_graph.ingest.job import Job
from serve_app.library import Library


@dataclass
class FakeLibrary(Library):
    """Jobs stay queued until they are looked at, and then take a step at every look."""

    failure: RagError | None = None
    submitted: list[tuple[str, bytes, str]] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    known: dict[str, Job] = field(default_factory=dict)
    names: list[str] = field(default_factory=lambda: ["acme-docs", "default", "zeta-docs"])
    ends: dict[str, Any] = field(
        default_factory=lambda: {"status": "done", "result": "created", "document_id": "d1"}
    )

    async def submit(self, tenant: str, name: str, content: bytes, collection: str) -> Job:
        if self.failure:
            raise self.failure
        self.submitted.append((name, content, collection))
        return self._new("document", tenant, collection, name)

    async def jobs(self, tenant: str) -> list[Job]:
        return [job for job in self.known.values() if job.tenant == tenant]

    async def job(self, tenant: str, job_id: str) -> Job:
        job = self.known.get(job_id)
        if job is None or job.tenant != tenant:
            raise NotFoundError(f"There is no job {job_id!r}.")
        return job

    async def news(self, tenant: str, job_id: str, seen: float, timeout_s: float) -> Job:
        if self.failure:
            raise self.failure
        job = await self.job(tenant, job_id)
        if job.status == "queued":
            return self._put(job, status="embedding", chunks_total=2, chunks_done=1, eta_s=0.5)
        return self._put(job, chunks_done=2, eta_s=None, **self.ends)

    async def ended(self, tenant: str, job_id: str, timeout_s: float) -> Job:
        return self._put(await self.job(tenant, job_id), chunks_total=2, chunks_done=2, **self.ends)

    async def cancel(self, tenant: str, job_id: str) -> Job:
        return self._put(await self.job(tenant, job_id), status="cancelled")

    async def documents(self, collection: str, after: str, limit: int) -> list[dict[str, Any]]:
        names = [name for name in ("a.md", "b.md", "c.md") if name > after]
        return [
            {"id": name[0], "name": name, "collection": collection, "chunks": 1}
            for name in names[:limit]
        ]

    async def document(self, collection: str, document_id: str) -> dict[str, Any]:
        if document_id != "a":
            raise NotFoundError(f"There is no document {document_id!r} in {collection!r}.")
        return {"id": "a", "name": "a.md", "collection": collection}

    async def delete_document(self, collection: str, document_id: str) -> None:
        await self.document(collection, document_id)
        self.deleted.append(f"{collection}/{document_id}")

    async def collections(self, names: Sequence[str]) -> list[dict[str, Any]]:
        return [_collection(name) for name in self.names if name in names]

    async def create_collection(
        self, name: str, embedder: str | None, chunk_tokens: int | None
    ) -> None:
        if name in self.names:
            raise CollectionExistsError(f"There is a collection {name!r} already.", None, "name")
        self.names.append(name)

    async def delete_collection(self, name: str) -> None:
        if name not in self.names:
            raise CollectionNotFoundError(f"There is no collection {name!r}.", None, "collection")
        self.names.remove(name)

    async def re_embed(self, tenant: str, collection: str, embedder: str) -> Job:
        return self._new("embedder", tenant, collection, embedder or "the earlier one")

    def _new(self, kind: Any, tenant: str, collection: str, name: str) -> Job:
        number = len(self.known) + 1
        job = Job(f"job-{number}", kind, tenant, collection, name, time.time(), float(number))
        self.known[job.id] = job
        return job

    def _put(self, job: Job, **changes: Any) -> Job:
        updated = replace(job, updated_at=job.updated_at + 1, **changes)
        self.known[job.id] = updated
        return updated


def _collection(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "embedder": "fake",
        "chunk_tokens": 200,
        "previous_embedder": None,
        "documents": 3,
        "chunks": 3,
    }
