"""The library under Ray Serve: the ingestor writes and knows the jobs, retrievers read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rag_graph.ingest.job import Job
from serve_app.deployments.calls import Remote
from serve_app.library import Library


class RemoteLibrary(Library):
    """Each method is a call to one of the other deployments."""

    def __init__(self, retriever: Remote, ingestor: Remote) -> None:
        self._retriever = retriever
        self._ingestor = ingestor

    async def submit(self, tenant: str, name: str, content: bytes, collection: str) -> Job:
        job: Job = await self._write("submit", tenant, name, content, collection)
        return job

    async def jobs(self, tenant: str) -> list[Job]:
        jobs: list[Job] = await self._write("of", tenant)
        return jobs

    async def job(self, tenant: str, job_id: str) -> Job:
        job: Job = await self._write("one", tenant, job_id)
        return job

    async def news(self, tenant: str, job_id: str, seen: float, timeout_s: float) -> Job:
        job: Job = await self._write("news", tenant, job_id, seen, timeout_s)
        return job

    async def ended(self, tenant: str, job_id: str, timeout_s: float) -> Job:
        job: Job = await self._write("ended", tenant, job_id, timeout_s)
        return job

    async def cancel(self, tenant: str, job_id: str) -> Job:
        job: Job = await self._write("cancel", tenant, job_id)
        return job

    async def documents(self, collection: str, after: str, limit: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = await self._read("documents", collection, after, limit)
        return found

    async def document(self, collection: str, document_id: str) -> dict[str, Any]:
        found: dict[str, Any] = await self._read("document", collection, document_id)
        return found

    async def delete_document(self, collection: str, document_id: str) -> None:
        await self._write("delete_document", collection, document_id)

    async def collections(self, names: Sequence[str]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = await self._read("describe", list(names))
        return found

    async def create_collection(
        self, name: str, embedder: str | None, chunk_tokens: int | None
    ) -> None:
        await self._write("create_collection", name, embedder, chunk_tokens)

    async def delete_collection(self, name: str) -> None:
        await self._write("delete_collection", name)

    async def re_embed(self, tenant: str, collection: str, embedder: str) -> Job:
        job: Job = await self._write("re_embed", tenant, collection, embedder)
        return job

    async def _read(self, method: str, *args: Any) -> Any:
        return await self._retriever.call("read", method, *args)

    async def _write(self, method: str, *args: Any) -> Any:
        return await self._ingestor.call("jobs", method, *args)
