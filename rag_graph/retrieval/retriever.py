"""Hybrid search: dense and BM25, fused by reciprocal rank."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from rag_graph.errors import CollectionNotFoundError, InvalidQueryError, RerankerError, StoreError
from rag_graph.retrieval import schema
from rag_graph.retrieval.collection import Collection
from rag_graph.retrieval.embedder import Embedders, open_embedders
from rag_graph.retrieval.fusion import fuse
from rag_graph.retrieval.reranker import Reranker, open_reranker
from rag_graph.retrieval.resident import Ranking, Row
from rag_graph.retrieval.store import Store
from rag_graph.retrieval.vectors import Vectors
from rag_graph.settings import RagSettings
from rag_graph.state import DEFAULT_COLLECTION, Passage, SearchQuery

log = logging.getLogger(__name__)

MAX_SEARCHES = 10
"""Tries to search without a commit between. A commit takes longer than a search: two suffice."""


class Retriever:
    """Searches collections. Only ever reads."""

    def __init__(
        self,
        store: Store,
        embedders: Embedders,
        settings: RagSettings,
        reranker: Reranker | None = None,
    ) -> None:
        self.store = store
        self._embedders = embedders
        self._settings = settings
        self._reranker = reranker

    @classmethod
    async def open(cls, settings: RagSettings) -> Retriever:
        """Load the models and connect to the store that `settings` name.

        Raises:
            EmbedderError: the embedding model cannot be loaded.
            RerankerError: the reranking model cannot be loaded.
            StoreError: the store cannot be reached.
        """
        store, embedders = await asyncio.gather(Store.open(settings), open_embedders(settings))
        reranker = await asyncio.to_thread(open_reranker, settings)
        return cls(store, embedders, settings, reranker)

    async def check_embedder(self) -> None:
        """Return if the embedding model for new collections works.

        Raises:
            EmbedderError: it does not.
        """
        await self._embedders.default.embed_query("ready?")

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
        wanted = query.top_k or self._settings.top_k
        read = max(wanted, self._settings.rerank_candidates) if self._reranker else wanted
        found = await self._find(query, lambda fused: [row_id for row_id, _ in fused[:read]])
        passages = [] if found is None else found.passages(read)
        return (await self._reranked(query.text, passages))[:wanted]

    async def _reranked(self, query: str, passages: list[Passage]) -> list[Passage]:
        """Return the passages as the reranker orders them, or as they are if it fails."""
        if self._reranker is None or not passages:
            return passages
        try:
            scores = await self._reranker.scores(query, [passage.text for passage in passages])
        except RerankerError as error:
            log.warning("The fused order stands: %s", error)
            return passages
        rated = [replace(p, relevance=score) for p, score in zip(passages, scores, strict=True)]
        return sorted(rated, key=lambda passage: -(passage.relevance or 0.0))

    async def rankings(self, query: SearchQuery) -> dict[str, list[Row]]:
        """Return all candidates as fusion, dense and BM25 search rank them.

        Raises:
            RagError: as `search` does.
        """
        found = await self._find(query, lambda fused: [row_id for row_id, _ in fused])
        if found is None:
            return {"hybrid": [], "dense": [], "bm25": []}
        ranked = {"hybrid": found.fused, "dense": found.dense, "bm25": found.bm25}
        return {name: [found.rows[row_id] for row_id, _ in hits] for name, hits in ranked.items()}

    async def _find(
        self, query: SearchQuery, choose: Callable[[Ranking], list[int]]
    ) -> _Found | None:
        """Search both ways, fuse, and read the rows chosen; None if there is no collection yet."""
        where = _check(query)
        while True:
            try:
                collection = await self.store.collection(query.collection)
            except CollectionNotFoundError:
                if query.collection == DEFAULT_COLLECTION:
                    return None
                raise
            try:
                return await self._find_in(collection, query, where, choose)
            except StoreError:
                if await self.store.is_live(collection.info):
                    raise  # else its tables were dropped amid the search: look what there is now

    async def _find_in(
        self,
        collection: Collection,
        query: SearchQuery,
        where: str | None,
        choose: Callable[[Ranking], list[int]],
    ) -> _Found:
        info = collection.info
        embedder = self._embedders.named(info.embedder, info.dimension)
        vector = await embedder.embed_query(query.text)
        for _ in range(MAX_SEARCHES):
            found = await self._find_once(collection, vector, query, where, choose)
            if found is not None:
                return found
        raise StoreError(f"Collection {info.name!r} changes faster than it can be read. Try again.")

    async def _find_once(
        self,
        collection: Collection,
        vector: Vectors,
        query: SearchQuery,
        where: str | None,
        choose: Callable[[Ranking], list[int]],
    ) -> _Found | None:
        """Search both ways; None if a commit came between them, or before the rows were read.

        A document that was replaced in between stands in one ranking with its old rows and in the
        other with its new ones, behind others that stand in both.
        """
        limit = self._settings.candidates
        resident = await collection.resident()
        if resident is None:
            begun = await collection.version()
            dense, bm25 = await asyncio.gather(
                collection.dense(vector, limit, where), collection.bm25(query.text, limit, where)
            )
            whole = await collection.version() == begun or await collection.has(_ids(dense, bm25))
        else:
            dense = resident.dense(vector, limit, query.filters)
            bm25 = await collection.bm25(query.text, limit, where)
            whole = resident.has(_ids(bm25))
        if not whole:
            return None
        fused = combine(dense, bm25, self._settings.rank_constant)
        chosen = choose(fused)
        rows = await collection.rows(chosen) if resident is None else resident.rows(chosen)
        return _Found(fused, dense, bm25, rows) if len(rows) == len(chosen) else None


def _ids(*rankings: Ranking) -> set[int]:
    return {row_id for ranking in rankings for row_id, _ in ranking}


@dataclass(frozen=True, slots=True)
class _Found:
    """What one search found."""

    fused: Ranking
    dense: Ranking
    bm25: Ranking
    rows: Mapping[int, Row]

    def passages(self, wanted: int) -> list[Passage]:
        """Return the best ones."""
        distances = dict(self.dense)
        return [
            _passage(self.rows[row_id], score, distances.get(row_id))
            for row_id, score in self.fused[:wanted]
        ]


def combine(dense: Ranking, bm25: Ranking, constant: int) -> Ranking:
    """Return both rankings fused, with the fusion's scores."""
    top = max((score for _, score in bm25), default=1.0) or 1.0
    evidence = {row_id: 1 - distance for row_id, distance in dense}
    for row_id, score in bm25:
        evidence[row_id] = evidence.get(row_id, 0.0) + score / top
    return fuse([[row_id for row_id, _ in hits] for hits in (dense, bm25)], constant, evidence)


def _check(query: SearchQuery) -> str | None:
    if not query.text.strip():
        raise InvalidQueryError("The query is empty; send the words to look for.", None, "query")
    if query.top_k is not None and query.top_k < 1:
        raise InvalidQueryError("top_k must be at least 1.", None, "top_k")
    return schema.where(dict(query.filters))


def _passage(row: Row, score: float, distance: float | None) -> Passage:
    return Passage(
        chunk_id=row["chunk_id"],
        document_id=row["document_id"],
        title=row["title"],
        source=row["source"],
        text=row["content"][row["context_length"] :],
        score=score,
        page=row["page"],
        heading=row["heading"],
        similarity=None if distance is None else 1 - distance,
    )
