"""The documents, collections and jobs that the routes stand on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from rag_graph.ingest.job import Job


class Library(Protocol):
    """What can be done with documents. Every method raises `RagError`s, and `UnavailableError`
    where the part of the application that does it cannot answer."""

    async def submit(self, tenant: str, name: str, content: bytes, collection: str) -> Job:
        """Return the job that puts a document in; see `Jobs.submit`."""

    async def jobs(self, tenant: str) -> list[Job]:
        """Return a tenant's jobs, the latest first."""

    async def job(self, tenant: str, job_id: str) -> Job:
        """Return a tenant's job."""

    async def news(self, tenant: str, job_id: str, seen: float, timeout_s: float) -> Job:
        """Return a job once it has changed since `seen`, or after `timeout_s` seconds."""

    async def ended(self, tenant: str, job_id: str, timeout_s: float) -> Job:
        """Return a job once it has ended, or after `timeout_s` seconds."""

    async def cancel(self, tenant: str, job_id: str) -> Job:
        """Cancel a job and return it."""

    async def documents(self, collection: str, after: str, limit: int) -> list[dict[str, Any]]:
        """Return documents by name, those after the name `after`."""

    async def document(self, collection: str, document_id: str) -> dict[str, Any]:
        """Return a document."""

    async def delete_document(self, collection: str, document_id: str) -> None:
        """Delete a document."""

    async def collections(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Return those of the collections `names` that there are."""

    async def create_collection(
        self, name: str, embedder: str | None, chunk_tokens: int | None
    ) -> None:
        """Make a collection."""

    async def delete_collection(self, name: str) -> None:
        """Delete a collection."""

    async def re_embed(self, tenant: str, collection: str, embedder: str) -> Job:
        """Return the job that changes a collection's embedder; empty: to the earlier one."""
