"""Both layouts are read; anything else is refused with the file's name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rag_graph.errors import EvalDataError
from rag_graph.evals.datasets import EvalQuestion, load

SQUAD = {
    "data": [
        {
            "title": "T",
            "paragraphs": [
                {
                    "context": "The sky is blue.",
                    "qas": [
                        {"question": "Colour?", "answers": [{"text": "blue", "answer_start": 11}]},
                        {"question": "Age?", "answers": [], "is_impossible": True},
                    ],
                }
            ],
        }
    ]
}


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_squad_json(tmp_path: Path) -> None:
    data = load(write(tmp_path / "d.json", json.dumps(SQUAD)))
    assert data.documents == {"00000.txt": "The sky is blue."}
    assert data.questions == (
        EvalQuestion("Colour?", "00000.txt", ("blue",)),
        EvalQuestion("Age?", None, ()),
    )


def test_json_lines(tmp_path: Path) -> None:
    lines = [
        {"question": "a", "context": "one", "answers": ["1"]},
        {"question": "b", "context": "one", "answers": {"text": ["2", "2"], "answer_start": [0]}},
        {"question": "c"},
        {"question": "d", "context": "two"},
        {"question": "e", "context": "two", "answers": []},
    ]
    path = write(tmp_path / "d.jsonl", "\n".join(map(json.dumps, lines)) + "\n\n")
    data = load(path)
    assert list(data.documents.values()) == ["one", "two"]
    assert [(q.document, q.answers) for q in data.questions] == [
        ("00000.txt", ("1",)),
        ("00000.txt", ("2",)),
        (None, ()),
        ("00001.txt", ()),
        (None, ()),
    ]
    assert len(load(path, 1).questions) == 1


def test_only_line_feeds_end_a_line(tmp_path: Path) -> None:
    text = '{"question": "a\u2028b\u0085c"}\r\n{"question": "d"}'
    data = load(write(tmp_path / "d.jsonl", text))
    assert [q.text for q in data.questions] == ["a\u2028b\u0085c", "d"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", "{}"),
        ("a.json", "no"),
        ("a.jsonl", '{"q": 1}'),
        ("a.jsonl", ""),
        ("a.json", "[]"),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(EvalDataError, match=name):
        load(write(tmp_path / name, text))
    with pytest.raises(EvalDataError, match=r"missing\.json cannot be read"):
        load(tmp_path / "missing.json")
