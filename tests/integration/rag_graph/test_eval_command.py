"""`isthmus eval` on a small data set, with the real embedding model and the mock LLM."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cli.errors import CliError, UsageError
from cli.eval import app

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


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        (["--data", "missing.json"], CliError, "missing.json cannot be read"),
        (["--compare", "top_k=5", "top_k=5"], UsageError, "two different settings"),
        (["--compare", "bananas=5", "top_k=5"], UsageError, "'bananas=5' is not NAME=VALUE"),
        (["--compare", "top_k=0", "top_k=5"], UsageError, "Setting top_k"),
    ],
)
def test_what_cannot_be_run_is_said(arguments: list[str], kind: type, words: str) -> None:
    result = run("retrieval", *arguments)
    assert isinstance(result.exception, kind)
    assert words in str(result.exception)
