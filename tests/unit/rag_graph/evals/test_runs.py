"""Small runs with known outcomes, and their reports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from contracts.mock_llm import MockLLM
from rag_graph.errors import EvalDataError, RerankerError
from rag_graph.evals import answers, reads, report, retrieval
from rag_graph.evals.datasets import Dataset, EvalQuestion
from rag_graph.evals.metrics import Estimate
from rag_graph.graph import RagGraph
from rag_graph.llm.asgi_transport import StreamingASGITransport
from rag_graph.llm.client import LLMClient
from rag_graph.retrieval.embedder import Embedders
from rag_graph.settings import RagSettings
from rag_graph.state import Answered
from tests.support.rag import FakeEmbedder

DATA = Dataset(
    {"a.txt": "The sky is blue today.", "b.txt": "Grass is green in spring."},
    (
        EvalQuestion("What colour is the sky?", "a.txt", ("blue",)),
        EvalQuestion("What colour is grass in spring?", "b.txt", ("purple",)),
        EvalQuestion("Who is the king of Norway?", None, ()),
    ),
)


def silent(_what: str, _done: int, _total: int) -> None:
    return None


@pytest.fixture
def settings(tmp_path: Path) -> RagSettings:
    return RagSettings(store_uri=str(tmp_path), cache_dir=tmp_path)


async def test_retrieval_finds_what_is_plainly_there(settings: RagSettings) -> None:
    measured = await retrieval.run(DATA, Embedders([FakeEmbedder()]), None, settings, silent)
    assert (measured.documents, measured.chunks, len(measured.search_ms)) == (2, 2, 2)
    assert list(measured.methods) == ["hybrid", "dense", "bm25"]
    assert measured.methods["hybrid"].scores["ndcg_at_10"] == {0: 1.0, 1: 1.0}


class Contrary:
    """A reranker that likes best what has least of the question's words."""

    async def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        wanted = set(query.lower().split())
        return [-float(len(wanted & set(text.lower().split()))) for text in texts]


async def test_a_reranker_has_the_last_word_on_what_it_reads(settings: RagSettings) -> None:
    found = await retrieval.run(DATA, Embedders([FakeEmbedder()]), Contrary(), settings, silent)
    assert list(found.methods) == ["reranked", "hybrid", "dense", "bm25"]
    assert found.methods["hybrid"].scores["mrr"] == {0: 1.0, 1: 1.0}
    assert found.methods["reranked"].scores["mrr"] == {0: 0.5, 1: 0.5}


async def test_rows_beyond_those_that_are_reranked_keep_their_places() -> None:
    words = ("the sky", "sky", "", "the")
    rows = [{"source": w, "content": "title " + w, "context_length": 6} for w in words]
    settings = RagSettings(rerank_candidates=3)
    ranked = await retrieval.reranked(Contrary(), "the sky", rows, settings)  # type: ignore[arg-type]
    assert [row["source"] for row in ranked] == ["", "sky", "the sky", "the"]


async def test_a_reranker_that_does_not_answer_ends_the_run_before_it_begins() -> None:
    with pytest.raises(RerankerError):
        await retrieval.open_models(RagSettings(reranker_url="http://127.0.0.1:9/v1"))


def test_every_setting_that_is_read_is_one() -> None:
    assert set(RagSettings.model_fields) >= reads.ANSWERS > reads.RETRIEVAL


@pytest.mark.parametrize(
    ("name", "switches", "needs"),
    [
        ("rerank_candidates", {}, "reranker_dir or reranker_url"),
        ("rerank_candidates", {"reranker_url": "http://x/v1"}, None),
        ("reranker_url", {}, None),
        ("embedder_model", {}, "embedder_url"),
        ("embedder_url", {}, None),
    ],
)
def test_a_setting_of_a_model_that_there_is_not_is_idle(
    name: str, switches: dict[str, str], needs: str | None
) -> None:
    reason = reads.idle([name], RagSettings(**switches))  # type: ignore[arg-type]
    assert reason == (needs and f"{name} makes no difference without {needs}.")


async def test_questions_that_no_document_answers_leave_retrieval_nothing_to_measure(
    settings: RagSettings,
) -> None:
    data = Dataset(DATA.documents, DATA.questions[2:])
    with pytest.raises(EvalDataError, match="None of the 1 questions"):
        await retrieval.run(data, Embedders([FakeEmbedder()]), None, settings, silent)


def test_without_gold_answers_the_right_document_still_counts() -> None:
    result = answers.AnswersResult()
    answered = Answered("Grass is green. [1]", (), "stop", None, "m")
    result.add(0, EvalQuestion("What is green?", "b.txt", ()), answered, [])
    assert {name for name, values in result.scores.items() if values} == {
        "answered",
        "citation_recall",
        "groundedness",
    }


async def test_answers_are_scored(settings: RagSettings) -> None:
    retriever, _, _ = await retrieval.build(
        DATA, Embedders([FakeEmbedder()]), None, settings, silent
    )
    client = LLMClient("http://mock", transport=StreamingASGITransport(MockLLM()))
    result = await answers.run(DATA, RagGraph(retriever.search, client, settings), silent)
    assert result.scores["contains_gold"] == {0: 1.0, 1: 0.0}
    assert result.scores["citation_recall"] == result.scores["groundedness"] == {0: 1.0, 1: 1.0}
    assert set(result.scores["abstention"]) == {2}


def test_reports_hold_the_main_runs_means_and_escape_names() -> None:
    runs = {"<a>": {"mrr": {0: 1.0, 1: 0.5}}, "b": {"mrr": {0: 0.5, 1: 0.5}}}
    body = report.as_json(runs, {"questions": 2})
    assert (body["mrr"], body["questions"]) == (0.75, 2)
    assert body["runs"]["b"]["mrr"]["mean"] == 0.5
    page = report.as_html("T", runs, {"data": "x<y"})
    assert "<a>" not in page.replace("&lt;a&gt;", "")
    assert "0.7500" in page
    assert report.compared(runs["<a>"], runs["b"])["mrr"].mean == -0.25


def test_runs_that_abstained_on_different_questions_are_compared_on_the_others() -> None:
    a = {"f1": {0: 0.2, 1: 0.9, 3: 0.4}, "abstention": {4: 1.0}, "groundedness": {0: 1.0}}
    b = {"f1": {1: 0.9, 2: 0.3, 3: 0.4}, "abstention": {}, "groundedness": {2: 1.0}}
    assert report.compared(a, b) == {"f1": Estimate(0.0, 0.0, 0.0)}
