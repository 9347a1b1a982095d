"""What a job is: a document on its way in, or a collection on its way to another embedder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["queued", "parsing", "embedding", "indexing", "done", "failed", "cancelled"]
Kind = Literal["document", "embedder"]
ENDED: frozenset[Status] = frozenset({"done", "failed", "cancelled"})
Key = tuple[str, str, str]
"""What a job works on."""
INTERRUPTED: Status = "queued"
"""What a job is again when the process that did it is gone."""


@dataclass(frozen=True, slots=True)
class Job:
    """One job, as it stands."""

    id: str
    kind: Kind
    tenant: str
    """Whose it is: nobody else sees it."""
    collection: str
    name: str
    """The document's name, or the embedder's."""
    created_at: float
    """Seconds since the epoch."""
    updated_at: float
    upload: str = ""
    """SHA-256 of the document's bytes; empty where there are none."""
    bytes: int = 0
    status: Status = "queued"
    chunks_done: int = 0
    chunks_total: int | None = None
    """None until the document is parsed."""
    eta_s: float | None = None
    """Seconds it may still take; None where nothing is known to judge by."""
    result: Literal["created", "replaced", "unchanged"] | None = None
    """What became of the document."""
    document_id: str | None = None
    """Set once the document is in."""
    error: str | None = None
    error_code: str | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.status in ENDED

    def wire(self) -> dict[str, Any]:
        """Return the job as clients get it."""
        error = None if self.error is None else {"message": self.error, "code": self.error_code}
        return {
            "id": self.id,
            "object": "ingestion.job",
            "kind": self.kind,
            "name": self.name,
            "collection": self.collection,
            "status": self.status,
            "chunks_done": self.chunks_done,
            "chunks_total": self.chunks_total,
            "eta_s": self.eta_s,
            "result": self.result,
            "error": error,
            "document_id": self.document_id,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
        }


def touches(job: Job) -> Key:
    """Return what a job works on: a document, or the embedder of a collection."""
    return job.kind, job.collection, job.name if job.kind == "document" else ""
