"""`isthmus eval` on a small data set, with the real embedding model and the mock LLM."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cli.errors import CliError, UsageError
from cli.eval import app
from tests.support.endpoint import serving

LINES = [
    {"question": "When does the library open?", "context": "The library opens at nine.",
     "answers": ["at nine", "nine"]},
    {"question": "What is the capital of France?", "context": "Paris is the capital of France.",
     "answers": ["Paris"]},
    {"question": "Who won the chess tournament in 1951?", "answers": []},
]  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "d.jsonl"
    path.write_text("\n".join(map(json.dumps, LINES)), encoding="utf-8")
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"})


def test_retrieval_prints_and_writes_what_it_measured(data: Path, tmp_path: Path) -> None:
    out, page = tmp_path / "o.json", tmp_path / "o.html"
    result = run("retrieval", "--data", data, "--json", out, "--html", page)
    assert result.exit_code == 0, result.output
    assert "ndcg_at_10" in result.output
    body = json.loads(out.read_text())
    assert (body["ndcg_at_10"], body["recall_at_5"], body["mrr"]) == (1.0, 1.0, 1.0)
    assert (body["questions"], body["documents"]) == (2, 2)
    assert "<svg" in page.read_text()


def test_answers_are_measured_against_the_mock(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.json"
    result = run("answers", "--data", data, "--json", out)
    assert result.exit_code == 0, result.output
    body = json.loads(out.read_text())
    assert body["contains_gold"] == body["citation_recall"] == body["groundedness"] == 1.0
    assert body["abstention"] == 1.0
    assert body["llm"] == "mock"


def test_two_settings_are_compared_question_by_question(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.json"
    compare = ["--compare", "rank_constant=5", "rank_constant=60,candidates=10"]
    result = run("retrieval", "--data", data, "--json", out, *compare)
    assert result.exit_code == 0, result.output
    body = json.loads(out.read_text())
    assert set(body["runs"]) == set(compare[1:])
    assert body["difference"]["mrr"] == {"mean": 0.0, "low": 0.0, "high": 0.0}


def library_first(asked: dict[str, Any]) -> list[dict[str, Any]]:
    """Rerank: what speaks of the library is best."""
    return [{"index": i, "score": float("library" in t)} for i, t in enumerate(asked["texts"])]


def all_but_paris(asked: dict[str, Any]) -> dict[str, Any]:
    """Embed a question as the library's text is, not as that on Paris."""
    vectors = [[0.0, 1.0] if "Paris" in text else [1.0, 0.0] for text in asked["input"]]
    return {"data": [{"index": i, "embedding": v} for i, v in enumerate(vectors)]}


def test_a_reranker_makes_a_difference(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.json"
    with serving(library_first) as endpoint:
        compare = ["--compare", "", f"reranker_url={endpoint.url}"]
        result = run("retrieval", "--data", data, "--json", out, *compare)
    assert result.exit_code == 0, result.output
    assert json.loads(out.read_text())["difference"]["mrr"]["mean"] == -0.25


def test_an_embedder_makes_a_difference(tmp_path: Path) -> None:
    data, out = tmp_path / "d.jsonl", tmp_path / "o.json"
    asked = {"question": "Which town governs the French?", "context": LINES[1]["context"]}
    data.write_text("\n".join(map(json.dumps, [asked, LINES[0]])), encoding="utf-8")
    with serving(all_but_paris) as endpoint:
        changed = f"embedder_url={endpoint.url},embedder_model=m,embedder_dimension=2"
        result = run("retrieval", "--data", data, "--json", out, "--compare", "", changed)
    assert result.exit_code == 0, result.output
    assert json.loads(out.read_text())["difference"]["mrr"]["mean"] == -0.25


def test_a_setting_of_answers_makes_a_difference(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.json"
    compare = ["--compare", "min_evidence=0", "min_evidence=1.5"]
    result = run("answers", "--data", data, "--json", out, *compare)
    assert result.exit_code == 0, result.output
    difference = json.loads(out.read_text())["difference"]
    assert (difference["answered"]["mean"], difference["abstention"]["mean"]) == (-1.0, 1.0)
    assert "f1" not in difference


def test_the_table_of_models_is_read(data: Path) -> None:
    result = run("answers", "--data", data, "--compare", "models_file=missing.toml", "")
    assert isinstance(result.exception, CliError)
    assert "missing.toml" in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        (["--data", "missing.json"], CliError, "missing.json cannot be read"),
        (["--compare", "candidates=5", "candidates=05"], UsageError, "two different settings"),
        (["--compare", "bananas=5", "candidates=5"], UsageError, "'bananas=5' is not NAME=VALUE"),
        (["--compare", "candidates=0", "candidates=5"], UsageError, "RAG_CANDIDATES: "),
        (["--compare", "top_k=1", "top_k=50"], UsageError, "top_k makes no difference to eval r"),
        (["--compare", "rerank_candidates=5", ""], UsageError, "without reranker_dir or reranker"),
    ],
)
def test_what_cannot_be_run_is_said(arguments: list[str], kind: type, words: str) -> None:
    result = run("retrieval", *arguments)
    assert isinstance(result.exception, kind)
    assert words in str(result.exception)
