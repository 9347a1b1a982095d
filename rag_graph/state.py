"""The values that travel through retrieval, the graph and ingestion. Frozen, and they pickle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from contracts.openai import ChatMessage, FinishReason, Usage

DEFAULT_COLLECTION = "default"
Retrieval: TypeAlias = Literal["auto", "always", "never"]
"""Whether documents are searched for a question; auto: unless it is small talk."""


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """What to look for, where, and how many passages to bring."""

    text: str
    collection: str = DEFAULT_COLLECTION
    top_k: int | None = None
    """Passages wanted; None for the setting's."""
    filters: Mapping[str, str] = field(default_factory=dict)
    """Exact values that a passage's document must have, by field: `source`, `title`."""


@dataclass(frozen=True, slots=True)
class Passage:
    """One chunk found."""

    chunk_id: str
    document_id: str
    title: str
    source: str
    text: str
    score: float
    """Reciprocal rank fusion score: higher is better, comparable within one search only."""
    page: int | None = None
    """First page of the chunk, counted from 1, where the document has pages."""
    heading: str | None = None
    """Headings above the chunk, outermost first, joined by " > "."""
    similarity: float | None = None
    """Cosine with the query, -1 to 1; None where only BM25 found the chunk."""
    relevance: float | None = None
    """The reranker's score, comparable within one search only; None where none gave one."""


@dataclass(frozen=True, slots=True)
class Citation:
    """Where a statement of the answer comes from."""

    number: int
    """The n of the marker `[n]` in the answer, and of `<passage id="n">` in the prompt."""
    chunk_id: str
    document_id: str
    title: str
    source: str
    page: int | None
    heading: str | None
    quote: str
    """The sentence of the passage that bears the statement out best."""
    score: float
    origin: Literal["model", "matched"] = "model"
    """Who cited: the model by a marker, or Isthmus by matching the answer to the passages."""


@dataclass(frozen=True, slots=True)
class Question:
    """One request to answer. None leaves a value to the settings or to the LLM service."""

    text: str
    history: tuple[ChatMessage, ...] = ()
    """Earlier turns, oldest first; a system message comes first."""
    collection: str = DEFAULT_COLLECTION
    retrieval: Retrieval = "auto"
    top_k: int | None = None
    model: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    filters: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float | None = None
    """Seconds left to answer; sent on to the LLM service as its deadline."""
    tenant: str = "local"
    """Whose thread it is."""
    thread_id: str | None = None
    """The remembered conversation that it belongs to; None for one that is not remembered."""
    request_id: str | None = None
    """Opaque id, sent on to the LLM service."""
    traceparent: str | None = None
    """W3C trace context, sent on to the LLM service."""


@dataclass(frozen=True, slots=True)
class Retrieved:
    """Event: the passages that the answer will rest on, best first."""

    passages: tuple[Passage, ...]


@dataclass(frozen=True, slots=True)
class Token:
    """Event: the next piece of the answer's text."""

    text: str
    tokens: int = 1
    """About how many tokens of the model it is."""


@dataclass(frozen=True, slots=True)
class Answered:
    """Event, the last one: the whole answer.

    `text` is the joined tokens, less any marker that pointed to no passage.
    """

    text: str
    citations: tuple[Citation, ...]
    finish_reason: FinishReason
    usage: Usage | None
    model: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """JSON-able facts on how the answer came about, for the response's `isthmus` field."""


@dataclass(frozen=True, slots=True)
class Starting:
    """Event: the LLM service starts; the answer waits for it."""

    phase: str
    percent: float
    """How much of the start is done, 0 to 100."""
    eta_s: float | None = None
    """Seconds that are left, when the service can tell."""


Event: TypeAlias = Retrieved | Token | Answered | Starting


@dataclass(frozen=True, slots=True)
class DocumentReport:
    """What became of one ingested document."""

    document_id: str
    name: str
    title: str
    chunks: int
    status: Literal["created", "unchanged", "replaced"]
