"""Hybrid search: dense and BM25, fused by reciprocal rank."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from rag_graph.errors import CollectionNotFoundError, InvalidQueryError
from rag_graph.retrieval import schema
from rag_graph.retrieval.collection import Collection, Row
from rag_graph.retrieval.embedder import Embedder, open_embedder
from rag_graph.retrieval.fusion import fuse
from rag_graph.retrieval.store import Store
from rag_graph.settings import RagSettings
from rag_graph.state import DEFAULT_COLLECTION, Passage, SearchQuery


class Retriever:
    """Searches collections. Only ever reads."""

    def __init__(self, store: Store, embedder: Embedder, settings: RagSettings) -> None:
        self._store = store
        self._embedder = embedder
        self._settings = settings

    @classmethod
    async def open(cls, settings: RagSettings) -> Retriever:
        """Load the embedder and connect to the store that `settings` name.

        Raises:
            EmbedderError: the embedding model cannot be loaded.
            StoreError: the store cannot be reached.
        """
        store, embedder = await asyncio.gather(Store.open(settings), open_embedder(settings))
        return cls(store, embedder, settings)

    async def search(self, query: SearchQuery) -> list[Passage]:
        """Return up to `query.top_k` passages, best first.

        The default collection is empty until something is ingested into it; any other has to
        exist.

        Raises:
            InvalidQueryError: the text is empty, or a filter or the collection's name cannot be.
            CollectionNotFoundError: there is no such collection.
            EmbedderError: the embedder is not the collection's, or failed.
            StoreError: the store cannot be read.
        """
        where = _check(query)
        try:
            collection = await self._store.collection(query.collection)
        except CollectionNotFoundError:
            if query.collection == DEFAULT_COLLECTION:
                return []
            raise
        collection.check_embedder(self._embedder)
        rankings = await self._rank(collection, query.text, where)
        return _passages(rankings, query.top_k or self._settings.top_k)

    async def _rank(self, collection: Collection, text: str, where: str | None) -> list[list[Row]]:
        limit = self._settings.candidates
        return list(
            await asyncio.gather(
                self._dense(collection, text, limit, where),
                collection.bm25(text, limit, where),
            )
        )

    async def _dense(
        self, collection: Collection, text: str, limit: int, where: str | None
    ) -> list[Row]:
        vectors = await self._embedder.embed([text])
        return await collection.dense(vectors[0], limit, where)


def _check(query: SearchQuery) -> str | None:
    if not query.text.strip():
        raise InvalidQueryError("The query is empty; send the words to look for.", None, "query")
    if query.top_k is not None and query.top_k < 1:
        raise InvalidQueryError("top_k must be at least 1.", None, "top_k")
    return schema.where(dict(query.filters))


def _passages(rankings: Sequence[Sequence[Row]], top_k: int) -> list[Passage]:
    rows = {row["slot"]: row for ranking in rankings for row in ranking}
    fused = fuse([[row["slot"] for row in ranking] for ranking in rankings])
    return [_passage(rows[slot], score) for slot, score in fused[:top_k]]


def _passage(row: Row, score: float) -> Passage:
    return Passage(
        chunk_id=row["chunk_id"],
        document_id=row["document_id"],
        title=row["title"],
        source=row["source"],
        text=row["content"][row["context_length"] :],
        score=score,
        page=row["page"],
        heading=row["heading"],
    )
