"""Hybrid search: dense and BM25, fused by reciprocal rank."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from rag_graph.errors import CollectionNotFoundError, InvalidQueryError, StoreError
from rag_graph.retrieval import schema
from rag_graph.retrieval.collection import Collection, Row
from rag_graph.retrieval.embedder import Embedders, open_embedders
from rag_graph.retrieval.fusion import fuse
from rag_graph.retrieval.store import Store
from rag_graph.settings import RagSettings
from rag_graph.state import DEFAULT_COLLECTION, Passage, SearchQuery

MAX_SEARCHES = 10
"""Tries to see one state of every document. A commit takes longer than a search: two suffice."""


class Retriever:
    """Searches collections. Only ever reads."""

    def __init__(self, store: Store, embedders: Embedders, settings: RagSettings) -> None:
        self._store = store
        self._embedders = embedders
        self._settings = settings

    @classmethod
    async def open(cls, settings: RagSettings) -> Retriever:
        """Load the embedder and connect to the store that `settings` name.

        Raises:
            EmbedderError: the embedding model cannot be loaded.
            StoreError: the store cannot be reached.
        """
        store, embedders = await asyncio.gather(Store.open(settings), open_embedders(settings))
        return cls(store, embedders, settings)

    async def search(self, query: SearchQuery) -> list[Passage]:
        """Return up to `query.top_k` passages, best first.

        The default collection is empty until something is ingested into it; any other has to
        exist.

        Raises:
            InvalidQueryError: the text is empty, or a filter or the collection's name cannot be.
            CollectionNotFoundError: there is no such collection.
            EmbedderError: the collection's embedder is not at hand, or failed.
            StoreError: the store cannot be read.
        """
        rankings = await self.rankings(query)
        best = combine(rankings, self._settings.rank_constant)
        wanted = query.top_k or self._settings.top_k
        return [_passage(row, score) for row, score in best[:wanted]]

    async def rankings(self, query: SearchQuery) -> list[list[Row]]:
        """Return what dense and BM25 search find, before their fusion.

        Raises:
            RagError: as `search` does.
        """
        where = _check(query)
        try:
            collection = await self._store.collection(query.collection)
        except CollectionNotFoundError:
            if query.collection == DEFAULT_COLLECTION:
                return [[], []]
            raise
        return await self._rank(collection, query.text, where)

    async def _rank(self, collection: Collection, text: str, where: str | None) -> list[list[Row]]:
        """Search both ways, again if a document was replaced between the two."""
        limit = self._settings.candidates
        info = collection.info
        embedder = self._embedders.named(info.embedder, info.dimension)
        vector = (await embedder.embed([text]))[0]
        for _ in range(MAX_SEARCHES):
            rankings = list(
                await asyncio.gather(
                    collection.dense(vector, limit, where), collection.bm25(text, limit, where)
                )
            )
            if not torn(rankings):
                return rankings
        raise StoreError(
            f"Collection {collection.info.name!r} changes faster than it can be read. Try again."
        )


def combine(rankings: Sequence[Sequence[Row]], constant: int) -> list[tuple[Row, float]]:
    """Return the rows of a dense and a BM25 ranking fused, with their scores, best first."""
    dense, bm25 = rankings
    top = max((row["_score"] for row in bm25), default=1.0) or 1.0
    evidence = {row["slot"]: 1 - row["_distance"] for row in dense}
    for row in bm25:
        evidence[row["slot"]] = evidence.get(row["slot"], 0.0) + row["_score"] / top
    # A row of the dense ranking, which knows its distance, goes before BM25's of the same slot.
    rows = {row["slot"]: row for ranking in (bm25, dense) for row in ranking}
    slots = [[row["slot"] for row in ranking] for ranking in rankings]
    return [(rows[slot], score) for slot, score in fuse(slots, constant, evidence)]


def torn(rankings: Sequence[Sequence[Row]]) -> bool:
    """Whether the rankings saw two states of one document: each search reads its own snapshot."""
    states = {(row["document_id"], row["revision"]) for ranking in rankings for row in ranking}
    return len(states) != len({document_id for document_id, _ in states})


def _check(query: SearchQuery) -> str | None:
    if not query.text.strip():
        raise InvalidQueryError("The query is empty; send the words to look for.", None, "query")
    if query.top_k is not None and query.top_k < 1:
        raise InvalidQueryError("top_k must be at least 1.", None, "top_k")
    return schema.where(dict(query.filters))


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
        similarity=1 - row["_distance"] if "_distance" in row else None,
    )
