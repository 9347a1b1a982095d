"""Small runs with known outcomes, and their reports."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.mock_llm import MockLLM
from rag_graph.errors import EvalDataError
from rag_graph.evals import answers, report, retrieval
from rag_graph.evals.datasets import Dataset, EvalQuestion
from rag_graph.evals.metrics import Estimate
from rag_graph.graph import RagGraph
from rag_graph.llm.asgi_transport import StreamingASGITransport
from rag_graph.llm.client import LLMClient
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
    measured = await retrieval.run(DATA, FakeEmbedder(), settings, silent)
    assert (measured.documents, measured.chunks, len(measured.search_ms)) == (2, 2, 2)
    assert set(measured.methods) == {"hybrid", "dense", "bm25"}
    assert measured.methods["hybrid"].scores["ndcg_at_10"] == {0: 1.0, 1: 1.0}


async def test_questions_that_no_document_answers_leave_retrieval_nothing_to_measure(
    settings: RagSettings,
) -> None:
    data = Dataset(DATA.documents, DATA.questions[2:])
    with pytest.raises(EvalDataError, match="None of the 1 questions"):
        await retrieval.run(data, FakeEmbedder(), settings, silent)


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
    retriever, _, _ = await retrieval.build(DATA, FakeEmbedder(), settings, silent)
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
