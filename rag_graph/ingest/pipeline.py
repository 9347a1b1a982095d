"""One document's way in: parse, chunk, embed, store."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np

from rag_graph.errors import (
    CollectionNotFoundError,
    DocumentTooLargeError,
    NotFoundError,
    StoreError,
)
from rag_graph.ingest.chunk import Chunk, split
from rag_graph.ingest.committer import Committer
from rag_graph.ingest.sandbox import Sandbox, limits_of
from rag_graph.ingest.sections import Parsed
from rag_graph.retrieval.collection import Collection, CollectionInfo, Document
from rag_graph.retrieval.embedder import Embedder, Embedders, open_embedders
from rag_graph.retrieval.slots import Update
from rag_graph.retrieval.store import Store
from rag_graph.retrieval.vectors import Vectors
from rag_graph.settings import RagSettings
from rag_graph.state import DEFAULT_COLLECTION, DocumentReport

PARSER_VERSION = "4"
"""Changes whenever parsing or chunking does, so that documents are then ingested anew."""
EMBED_BATCH = 16
"""Chunks embedded between two reports of progress."""
MAX_SWAPS = 5
"""Versions of a collection that may be swapped under one document before it gives up."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one document is. Counts are chunks; parsing counts documents."""

    stage: Literal["parsing", "embedding", "indexing"]
    done: int
    total: int


@dataclass(frozen=True)
class Prepared:
    """A document that only has to be committed. It pickles: who prepares need not be who writes."""

    info: CollectionInfo
    """The version of the collection that it was embedded for."""
    update: Update
    known: bool
    """Whether it is in place of an earlier state."""

    @property
    def chunks(self) -> int:
        return len(self.update.chunks)


OnProgress = Callable[[Progress], None]


def _silent(_: Progress) -> None:
    return None


class Ingestor:
    """Writes documents into collections.

    A document is stored in two commits: its chunks, then its row in `documents`, which says that
    all is done. Killed between the two, the next run finds the row missing or old and stores the
    same chunks over themselves.
    """

    def __init__(self, store: Store, embedders: Embedders, settings: RagSettings) -> None:
        self._store = store
        self._embedders = embedders
        self._settings = settings
        self._sandbox = Sandbox(
            limits_of(settings), settings.parse_processes, settings.parse_idle_s
        )
        self._committer = Committer(store)
        self._embedding = asyncio.Semaphore(1)
        """One batch at a time: more only wait for each other's cores."""

    @classmethod
    async def open(cls, settings: RagSettings) -> Ingestor:
        """Load the embedder and connect to the store that `settings` name.

        Raises:
            EmbedderError: the embedding model cannot be loaded.
            StoreError: the store cannot be reached.
        """
        store, embedders = await asyncio.gather(
            Store.open(settings, writes=True), open_embedders(settings)
        )
        return cls(store, embedders, settings)

    async def open_collection(self, name: str) -> Collection:
        """Return a collection, made for the first embedder at hand if there is none.

        Raises:
            InvalidQueryError: `name` cannot name a collection.
            StoreError: the store cannot be read or written.
        """
        return await self._store.collection_or_new(
            name, self._embedders.default, self._settings.chunk_tokens
        )

    async def maintain(self, collection: str = DEFAULT_COLLECTION) -> None:
        """Compact a collection now; it also happens by itself every `maintain_every` documents.

        Raises:
            CollectionNotFoundError: there is no such collection.
            StoreError: the store cannot be written.
        """
        await (await self._store.collection(collection)).maintain()

    async def aclose(self) -> None:
        """End the parsing processes."""
        await self._sandbox.aclose()

    async def ingest(
        self,
        name: str,
        content: bytes,
        collection: str = DEFAULT_COLLECTION,
        on_progress: OnProgress = _silent,
    ) -> DocumentReport:
        """Store the document `name`, in place of an earlier one of that name.

        Args:
            name: what identifies the document in the collection, such as its path; its ending
                says how to read it.
            content: the file's bytes.
            collection: made if it does not exist.
            on_progress: called as the work goes on.

        Raises:
            DocumentError: the document cannot be read; nothing was changed.
            InvalidQueryError: `collection` cannot name a collection.
            EmbedderError: the collection's embedder failed, or is not at hand.
            StoreError: the store cannot be read or written.
        """
        for _ in range(MAX_SWAPS):
            report = await self._ingest(name, content, collection, on_progress)
            if report is not None:
                return report
        raise _swapped(collection)

    async def _ingest(
        self, name: str, content: bytes, collection: str, on_progress: OnProgress
    ) -> DocumentReport | None:
        """Store the document; None if the collection was swapped for another version meanwhile."""
        prepared = await self.prepare(name, content, collection, on_progress)
        if isinstance(prepared, DocumentReport):
            return prepared
        on_progress(Progress("indexing", 0, prepared.chunks))
        report = await self.commit(prepared)
        if report is not None:
            on_progress(Progress("indexing", prepared.chunks, prepared.chunks))
        return report

    async def prepare(
        self, name: str, content: bytes, collection: str, on_progress: OnProgress = _silent
    ) -> Prepared | DocumentReport:
        """Parse, cut and embed a document; a report if it is stored just so already.

        Raises:
            RagError: as `ingest` does.
        """
        self.check_size(name, content)
        target = await self.open_collection(collection)
        info = target.info
        embedder = self._embedders.named(info.embedder, info.dimension)
        document_id = document_key(name)
        content_hash = _hash(content, info.chunk_tokens)
        known = await target.document(document_id)
        if known and known.content_hash == content_hash:
            return _unchanged(known)
        on_progress(Progress("parsing", 0, 1))
        parsed = await self._sandbox.parse(name, content)
        chunks = await asyncio.to_thread(split, document_id, parsed, embedder, info.chunk_tokens)
        known_vectors = await target.vectors_of(document_id) if known else {}
        vectors = await self._vectors(embedder, chunks, known_vectors, on_progress)
        update = Update(
            _document_row(document_id, name, parsed, content_hash, len(chunks), len(content)),
            [_chunk_row(document_id, name, parsed.title, content_hash, c) for c in chunks],
            vectors,
        )
        return Prepared(info, update, known is not None)

    async def commit(self, prepared: Prepared) -> DocumentReport | None:
        """Store a prepared document; None if its collection was swapped for another version.

        Raises:
            StoreError: the store cannot be written.
        """
        target = await self._store.version(prepared.info)
        if not await self._committer.store(target, prepared.update):
            return None
        row = prepared.update.document
        return DocumentReport(
            row["document_id"],
            row["source"],
            row["title"],
            row["chunks"],
            "replaced" if prepared.known else "created",
        )

    async def _vectors(
        self,
        embedder: Embedder,
        chunks: Sequence[Chunk],
        known: dict[str, Vectors],
        on_progress: OnProgress,
    ) -> Vectors:
        """Return the chunks' vectors, embedding only contents that the document did not have."""
        vectors = dict(known)
        missing = [chunk for chunk in chunks if chunk.chunk_id not in known]
        for start in range(0, len(missing), EMBED_BATCH):
            on_progress(Progress("embedding", len(chunks) - len(missing) + start, len(chunks)))
            batch = missing[start : start + EMBED_BATCH]
            async with self._embedding:
                made = await embedder.embed([chunk.content for chunk in batch])
            vectors.update((chunk.chunk_id, made[i]) for i, chunk in enumerate(batch))
        on_progress(Progress("embedding", len(chunks), len(chunks)))
        return np.stack([vectors[chunk.chunk_id] for chunk in chunks]).astype(np.float32)

    async def unchanged(self, name: str, content: bytes, collection: str) -> DocumentReport | None:
        """Return a report if the document is stored just so; None if there is work to do.

        Raises:
            InvalidQueryError: `collection` cannot name a collection.
            StoreError: the store cannot be read.
        """
        try:
            target = await self._store.collection(collection)
        except CollectionNotFoundError:
            return None
        known = await target.document(document_key(name))
        same = known and known.content_hash == _hash(content, target.info.chunk_tokens)
        return _unchanged(known) if known and same else None

    async def delete(self, document_id: str, collection: str) -> None:
        """Delete a document: it is gone at one instant to every reader.

        Raises:
            NotFoundError: there is no such document, or no such collection.
            StoreError: the store cannot be written.
        """
        for _ in range(MAX_SWAPS):
            target = await self._store.collection(collection)
            if await target.document(document_id) is None:
                raise NotFoundError(f"There is no document {document_id!r} in {collection!r}.")
            if await target.delete([document_id], self._store.is_live):
                return
        raise _swapped(collection)

    def check_size(self, name: str, content: bytes) -> None:
        """Return if a document is not too large.

        Raises:
            DocumentTooLargeError: it is.
        """
        limit = self._settings.max_document_bytes
        if len(content) > limit:
            raise DocumentTooLargeError(
                f"{name} has {len(content)} bytes; the limit is {limit}. "
                "Split it, or raise RAG_MAX_DOCUMENT_BYTES."
            )


def _hash(content: bytes, chunk_tokens: int) -> str:
    """Return a hash of the document and of all that decides what its chunks are."""
    recipe = f"{PARSER_VERSION}/{chunk_tokens}/"
    return hashlib.sha256(recipe.encode() + content).hexdigest()


def _unchanged(known: Document) -> DocumentReport:
    return DocumentReport(known.document_id, known.source, known.title, known.chunks, "unchanged")


def _swapped(collection: str) -> StoreError:
    return StoreError(f"Collection {collection!r} is replaced again and again. Try later.")


def document_key(name: str) -> str:
    """Return the id of the document called `name`."""
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def _chunk_row(
    document_id: str, name: str, title: str, content_hash: str, chunk: Chunk
) -> dict[str, Any]:
    return {
        "document_id": document_id,
        "revision": content_hash[:16],
        "chunk_id": chunk.chunk_id,
        "title": title,
        "source": name,
        "content": chunk.content,
        "context_length": len(chunk.context),
        "page": chunk.page,
        "heading": chunk.heading,
    }


def _document_row(
    document_id: str, name: str, parsed: Parsed, content_hash: str, chunks: int, size: int
) -> dict[str, Any]:
    return {
        "document_id": document_id,
        "source": name,
        "title": parsed.title,
        "content_hash": content_hash,
        "chunks": chunks,
        "bytes": size,
        "ingested_at": datetime.now(UTC),
    }
