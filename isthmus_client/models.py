"""What the gateway answers, typed. Fields that a later gateway adds are ignored."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from contracts.openai import Usage

ENDED = frozenset({"done", "failed", "cancelled"})


class _Response(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Passage(_Response):
    """One chunk found."""

    chunk_id: str
    document_id: str
    title: str
    source: str
    text: str
    score: float
    page: int | None = None
    heading: str | None = None


class Citation(_Response):
    """Where a statement of an answer comes from."""

    number: int
    """The n of the marker `[n]` in the answer."""
    document_id: str
    title: str
    source: str
    page: int | None = None
    heading: str | None = None
    quote: str
    passage: str = ""


class Answer(_Response):
    """A whole answer."""

    id: str
    text: str
    citations: tuple[Citation, ...] = ()
    info: dict[str, Any] = {}
    """The answer's `isthmus` field: route, model, reason, timings, tokens, cost."""
    usage: Usage | None = None


class JobError(_Response):
    """Why a job failed."""

    message: str
    code: str | None = None


class Job(_Response):
    """The ingestion of one document."""

    id: str
    name: str
    collection: str
    status: str
    chunks_done: int = 0
    chunks_total: int | None = None
    eta_s: float | None = None
    result: str | None = None
    """created, replaced or unchanged."""
    error: JobError | None = None
    document_id: str | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.status in ENDED


class Document(_Response):
    """One document of a collection."""

    id: str
    name: str
    title: str
    collection: str
    chunks: int


class Thread(_Response):
    """One remembered conversation."""

    id: str
    title: str
    created: str
    updated: str
