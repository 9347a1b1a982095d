"""Retrieval measured: every document ingested as users' are, every question searched."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rag_graph.errors import EvalDataError
from rag_graph.evals import metrics
from rag_graph.evals.datasets import Dataset
from rag_graph.ingest.pipeline import Ingestor
from rag_graph.retrieval.embedder import Embedders, open_embedders
from rag_graph.retrieval.reranker import Reranker, open_reranker
from rag_graph.retrieval.resident import Row
from rag_graph.retrieval.retriever import Retriever
from rag_graph.retrieval.store import Store
from rag_graph.settings import RagSettings
from rag_graph.state import SearchQuery

DEPTH = 10
OnStep = Callable[[str, int, int], None]
"""Called with what is going on, how much is done, and of how much."""


@dataclass(slots=True)
class RetrievalResult:
    """Scores of one method: the values of each measure by question."""

    scores: dict[str, dict[int, float]] = field(
        default_factory=lambda: {"ndcg_at_10": {}, "recall_at_5": {}, "recall_at_1": {}, "mrr": {}}
    )

    def add(self, number: int, rank: int | None) -> None:
        """Score the question of that number, whose document is at `rank`."""
        self.scores["ndcg_at_10"][number] = metrics.ndcg(rank)
        self.scores["recall_at_5"][number] = metrics.recall(rank, 5)
        self.scores["recall_at_1"][number] = metrics.recall(rank, 1)
        self.scores["mrr"][number] = metrics.reciprocal(rank)


@dataclass(frozen=True, slots=True)
class RetrievalRun:
    """What a run measured."""

    methods: dict[str, RetrievalResult]
    """`reranked` if there is a reranker, `hybrid`, `dense`, `bm25`: first what readers get."""
    search_ms: list[float]
    documents: int
    chunks: int
    ingest_s: float


async def open_models(settings: RagSettings) -> tuple[Embedders, Reranker | None]:
    """Return the models that `settings` name, the reranker tried: searches go on without it.

    Raises:
        EmbedderError: an embedding model cannot be loaded.
        RerankerError: the reranking model cannot be loaded, or does not answer.
    """
    embedders = await open_embedders(settings)
    reranker = await asyncio.to_thread(open_reranker, settings)
    if reranker is not None:
        await reranker.scores("ready?", ["ready?"])
    return embedders, reranker


async def build(
    data: Dataset,
    embedders: Embedders,
    reranker: Reranker | None,
    settings: RagSettings,
    on_step: OnStep,
) -> tuple[Retriever, int, float]:
    """Ingest `data` into the store of `settings`. Return a retriever, chunks and seconds."""
    store = await Store.open(settings)
    ingestor = Ingestor(store, embedders, settings)
    begin, chunks = time.perf_counter(), 0
    try:
        for i, (name, text) in enumerate(data.documents.items()):
            on_step("ingesting", i, len(data.documents))
            chunks += (await ingestor.ingest(name, text.encode())).chunks
        await ingestor.maintain()
    finally:
        await ingestor.aclose()
    retriever = Retriever(store, embedders, settings, reranker)
    return retriever, chunks, time.perf_counter() - begin


async def run(
    data: Dataset,
    embedders: Embedders,
    reranker: Reranker | None,
    settings: RagSettings,
    on_step: OnStep,
) -> RetrievalRun:
    """Measure retrieval over the questions of `data` that a document answers.

    Args:
        data: documents and questions.
        embedders: the models to embed with; the default one is measured.
        reranker: what reranks the first `rerank_candidates` passages, or None.
        settings: how to chunk, search and fuse; `store_uri` should be an empty directory.
        on_step: told how far the run is.

    Raises:
        EvalDataError: no question names the document that answers it.
        RagError: ingestion, search or reranking failed.
    """
    questions = [q for q in data.questions if q.document is not None]
    if not questions:
        raise EvalDataError(
            f"None of the {len(data.questions)} questions has a document that answers it. Give "
            "them a context, and answers that are not empty or none at all."
        )
    retriever, chunks, ingest_s = await build(data, embedders, reranker, settings, on_step)
    results: dict[str, RetrievalResult] = {}
    search_ms = []
    for i, question in enumerate(questions):
        on_step("searching", i, len(questions))
        begin = time.perf_counter()
        rankings = await retriever.rankings(SearchQuery(question.text))
        if reranker is not None:
            first = await reranked(reranker, question.text, rankings["hybrid"], settings)
            rankings = {"reranked": first, **rankings}
        search_ms.append((time.perf_counter() - begin) * 1000)
        for method, rows in rankings.items():
            rank = metrics.rank_of(question.document or "", _documents(rows))
            results.setdefault(method, RetrievalResult()).add(i, rank)
    return RetrievalRun(results, search_ms, len(data.documents), chunks, ingest_s)


async def reranked(
    reranker: Reranker, question: str, rows: Sequence[Row], settings: RagSettings
) -> list[Row]:
    """Return the rows with the first ones reranked, as `Retriever.search` does it."""
    read = rows[: settings.rerank_candidates]
    texts = [row["content"][row["context_length"] :] for row in read]
    scores = await reranker.scores(question, texts) if texts else []
    best = sorted(zip(scores, read, strict=True), key=lambda rated: -rated[0])
    return [*(row for _, row in best), *rows[len(read) :]]


def _documents(rows: Sequence[Row]) -> list[str]:
    """Return the first documents of a ranking of chunks, each at its best chunk's place."""
    return list(dict.fromkeys(row["source"] for row in rows))[:DEPTH]
