"""Retrieval measured: every document ingested as users' are, every question searched."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rag_graph.errors import EvalDataError
from rag_graph.evals import metrics
from rag_graph.evals.datasets import Dataset
from rag_graph.ingest.pipeline import Ingestor
from rag_graph.retrieval.embedder import Embedder, Embedders
from rag_graph.retrieval.resident import Row
from rag_graph.retrieval.retriever import Retriever
from rag_graph.retrieval.store import Store
from rag_graph.settings import RagSettings
from rag_graph.state import SearchQuery

DEPTH = 10
METHODS = ("hybrid", "dense", "bm25")
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
    search_ms: list[float]
    documents: int
    chunks: int
    ingest_s: float


async def build(
    data: Dataset, embedder: Embedder, settings: RagSettings, on_step: OnStep
) -> tuple[Retriever, int, float]:
    """Ingest `data` into the store of `settings`. Return a retriever, chunks and seconds."""
    store = await Store.open(settings)
    ingestor = Ingestor(store, Embedders([embedder]), settings)
    begin, chunks = time.perf_counter(), 0
    try:
        for i, (name, text) in enumerate(data.documents.items()):
            on_step("ingesting", i, len(data.documents))
            chunks += (await ingestor.ingest(name, text.encode())).chunks
        await ingestor.maintain()
    finally:
        await ingestor.aclose()
    return Retriever(store, Embedders([embedder]), settings), chunks, time.perf_counter() - begin


async def run(
    data: Dataset, embedder: Embedder, settings: RagSettings, on_step: OnStep
) -> RetrievalRun:
    """Measure retrieval over the questions of `data` that a document answers.

    Args:
        data: documents and questions.
        embedder: the model to embed with.
        settings: how to chunk, search and fuse; `store_uri` should be an empty directory.
        on_step: told how far the run is.

    Raises:
        EvalDataError: no question names the document that answers it.
        RagError: ingestion or search failed.
    """
    questions = [q for q in data.questions if q.document is not None]
    if not questions:
        raise EvalDataError(
            f"None of the {len(data.questions)} questions has a document that answers it. Give "
            "them a context, and answers that are not empty or none at all."
        )
    retriever, chunks, ingest_s = await build(data, embedder, settings, on_step)
    results = {method: RetrievalResult() for method in METHODS}
    search_ms = []
    for i, question in enumerate(questions):
        on_step("searching", i, len(questions))
        begin = time.perf_counter()
        rankings = await retriever.rankings(SearchQuery(question.text))
        search_ms.append((time.perf_counter() - begin) * 1000)
        for method, rows in rankings.items():
            results[method].add(i, metrics.rank_of(question.document or "", _documents(rows)))
    return RetrievalRun(results, search_ms, len(data.documents), chunks, ingest_s)


def _documents(rows: Sequence[Row]) -> list[str]:
    """Return the first documents of a ranking of chunks, each at its best chunk's place."""
    return list(dict.fromkeys(row["source"] for row in rows))[:DEPTH]
