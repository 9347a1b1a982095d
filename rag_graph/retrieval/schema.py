"""The tables of the store: their columns, and how they are named.

One `collections` table says which version of each collection is live; a version has its own
`documents` and `chunks` tables, so that a change of embedder builds a new version beside it.

A chunk's key is its **slot**, "document id:ordinal". Replacing a document is one upsert of its
slots, which is one commit of the table: readers see the old document or the new one. Slots that
the new document no longer needs become **vacant** in that same commit: a vacant row has no vector
and no content, so neither dense nor BM25 search can return it, and maintenance deletes it later.
"""

from __future__ import annotations

import re

import pyarrow as pa

from rag_graph.errors import InvalidQueryError

COLLECTIONS_TABLE = "collections"
COLLECTIONS = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("version", pa.int64(), nullable=False),
        pa.field("embedder", pa.string(), nullable=False),
        pa.field("dimension", pa.int32(), nullable=False),
        pa.field("chunk_tokens", pa.int32(), nullable=False),
        # A deleted collection keeps its row, so that a new one of its name gets a new version:
        # other processes may hold handles on the old one's tables.
        pa.field("deleted", pa.bool_(), nullable=False),
        # The version that was live before: what going back means. NULL before the first swap.
        pa.field("previous", pa.int64()),
    ]
)

DOCUMENTS = pa.schema(
    [
        pa.field("document_id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("content_hash", pa.string(), nullable=False),
        pa.field("chunks", pa.int32(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("ingested_at", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)

GOING = "content_hash = ''"
"""What holds for a document whose deletion has begun. Whoever maintains the table ends it."""

JOBS_TABLE = "jobs"
JOBS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("tenant", pa.string(), nullable=False),
        pa.field("collection", pa.string(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        # SHA-256 of the upload, whose bytes are in `uploads` until the job has ended.
        pa.field("upload", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("chunks_done", pa.int64(), nullable=False),
        pa.field("chunks_total", pa.int64()),
        pa.field("result", pa.string()),
        pa.field("document_id", pa.string()),
        pa.field("error", pa.string()),
        pa.field("error_code", pa.string()),
        pa.field("created_at", pa.float64(), nullable=False),
        pa.field("updated_at", pa.float64(), nullable=False),
    ]
)
UPLOADS_TABLE = "uploads"
UPLOADS = pa.schema(
    [
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("content", pa.large_binary(), nullable=False),
    ]
)

VACANT = "content IS NULL"
"""What holds for a vacant slot."""

SEARCH_COLUMNS = [
    "chunk_id",
    "document_id",
    "title",
    "source",
    "content",
    "context_length",
    "page",
    "heading",
]
"""What a passage is made of. Each column costs a search about a millisecond at a million rows."""
FILTERS = frozenset({"document_id", "title", "source"})
"""Columns that a search may be narrowed by."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


EMBEDDER_KEY = b"embedder"


def chunks_of(embedder: str, dimension: int) -> pa.Schema:
    """Return the columns of a `chunks` table, with the name of what embeds them as metadata."""
    return chunks(dimension).with_metadata({EMBEDDER_KEY: embedder.encode()})


def chunks(dimension: int) -> pa.Schema:
    """Return the columns of a `chunks` table whose vectors have `dimension` elements."""
    return pa.schema(
        [
            pa.field("slot", pa.string(), nullable=False),
            pa.field("document_id", pa.string(), nullable=False),
            # The same in all slots of one state of a document.
            pa.field("revision", pa.string()),
            pa.field("chunk_id", pa.string()),
            pa.field("title", pa.string()),
            pa.field("source", pa.string()),
            # The context (title and headings) and then the chunk's own text: what is embedded
            # and indexed. `context_length` characters in, the text begins.
            pa.field("content", pa.string()),
            pa.field("context_length", pa.int32()),
            pa.field("page", pa.int32()),
            pa.field("heading", pa.string()),
            pa.field("vector", pa.list_(pa.float32(), dimension)),
        ]
    )


def check_name(collection: str) -> str:
    """Return `collection` if it can name a collection.

    Raises:
        InvalidQueryError: it cannot.
    """
    if not _NAME.fullmatch(collection):
        raise InvalidQueryError(
            f"{collection!r} cannot name a collection: use 1 to 63 lower-case letters, digits, "
            "'-' and '_', beginning with a letter or digit.",
            None,
            "collection",
        )
    return collection


def table_name(collection: str, kind: str, version: int) -> str:
    """Return the name of a version's table; names of collections hold no dot, so it is unique."""
    return f"{collection}.{kind}.{version}"


def quote(value: str) -> str:
    """Return `value` as an SQL string literal."""
    return "'" + value.replace("'", "''") + "'"


def where(filters: dict[str, str]) -> str | None:
    """Return the SQL condition that `filters` mean, or None for no condition.

    Raises:
        InvalidQueryError: a filter names a column that cannot be filtered by.
    """
    for name in filters:
        if name not in FILTERS:
            raise InvalidQueryError(
                f"{name!r} cannot be filtered by; use {', '.join(sorted(FILTERS))}.",
                None,
                f"filters.{name}",
            )
    return " AND ".join(f"{name} = {quote(value)}" for name, value in filters.items()) or None
