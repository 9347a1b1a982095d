"""Questions with known sources and answers, from SQuAD-style JSON or JSON lines.

JSON: SQuAD's layout, `{"data": [{"title", "paragraphs": [{"context", "qas": [...]}]}]}`, which
XQuAD shares (https://arxiv.org/abs/1910.11856). JSON lines: one object a question, with
`question`, `context` (a document's text) and `answers` (strings, or SQuAD's objects). An empty list
of answers says that the documents do not answer the question; its context, if any, is still a
document. Without `answers`, the context answers it, in words that are not known.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rag_graph.errors import EvalDataError


@dataclass(frozen=True, slots=True)
class EvalQuestion:
    """A question, the one document that answers it, and the answers that count as right."""

    text: str
    document: str | None
    """Name of the document; None when none answers it."""
    answers: tuple[str, ...]
    """Empty also where the document's answer is not known."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Documents by name, and the questions about them."""

    documents: dict[str, str]
    questions: tuple[EvalQuestion, ...]


def load(path: Path, limit: int | None = None) -> Dataset:
    """Return the data of `path`, with the first `limit` questions and all documents.

    Raises:
        EvalDataError: the file is missing or not of either layout.
    """
    try:
        text = path.read_text(encoding="utf-8")
        entries = list(_lines(text) if path.suffix == ".jsonl" else _squad(json.loads(text)))
    except OSError as error:
        raise EvalDataError(
            f"{path} cannot be read: {error.strerror}. Name a data file."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise EvalDataError(
            f"{path} is neither SQuAD JSON nor JSON lines of questions: {error!r}. "
            "docs/retrieval.md, 'Evals', shows both layouts."
        ) from error
    if not entries:
        raise EvalDataError(f"{path} holds no question.")
    return _dataset(entries, limit)


_Entry = tuple[str, str | None, tuple[str, ...] | None]
"""Question, context, answers: empty if there is none, None if they are not told."""


def _dataset(entries: list[_Entry], limit: int | None) -> Dataset:
    contexts = dict.fromkeys(context for _, context, _ in entries if context)
    names = {context: f"{i:05d}.txt" for i, context in enumerate(contexts)}
    questions = tuple(
        EvalQuestion(question, names[context] if context and answers != () else None, answers or ())
        for question, context, answers in entries[:limit]
    )
    return Dataset({name: context for context, name in names.items()}, questions)


def _squad(content: Any) -> Iterator[_Entry]:
    for article in content["data"]:
        for paragraph in article["paragraphs"]:
            for qa in paragraph["qas"]:
                found = () if qa.get("is_impossible") else _answers(qa.get("answers"))
                yield qa["question"], paragraph["context"], found


def _lines(text: str) -> Iterator[_Entry]:
    for line in text.split("\n"):  # splitlines also splits at U+2028, which a string may hold
        if line.strip():
            entry = json.loads(line)
            yield entry["question"], entry.get("context"), _answers(entry.get("answers"))


def _answers(given: Any) -> tuple[str, ...] | None:
    """Return the answers' texts, from strings or from SQuAD's `{"text": ...}` objects."""
    if given is None:
        return None
    if isinstance(given, dict):  # the Hugging Face form: {"text": [...], "answer_start": [...]}
        given = given["text"]
    texts = [a["text"] if isinstance(a, dict) else a for a in given]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("an answer is not a string")
    return tuple(dict.fromkeys(texts))
