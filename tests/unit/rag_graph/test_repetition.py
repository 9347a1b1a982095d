"""A text that repeats itself is stopped; one that only looks like it is not."""

from __future__ import annotations

import re

import pytest

from rag_graph.repetition import LoopGuard

TAINT = "The GPU node pools carry the taint sku=gpu:NoSchedule."
LINE = "    raise ValueError(name, of, the, value)\n"
CODE = f"```\n{LINE}{LINE}```\n"


def passed(text: str, pieces: str = r"\s*\S+|\s+$") -> tuple[str, bool]:
    """Return what a guard passes on of a text that comes in pieces."""
    guard = LoopGuard()
    said = "".join(map(guard.feed, re.findall(pieces, text, re.DOTALL)))
    return said + guard.flush(), guard.looping


@pytest.mark.parametrize(
    "text",
    [
        f"{TAINT} " * 10,
        f"- {TAINT}\n" * 3,
        f"1. {TAINT}\n2. {TAINT}\n3. {TAINT}",
        f"{TAINT} It keeps others away. {TAINT} It keeps others away.",
        f"{TAINT} {TAINT.upper()}",
        f"{TAINT} The GPU node pools carry the",
    ],
)
@pytest.mark.parametrize("pieces", [r"\s*\S+|\s+$", r".", r".+"])
def test_a_sentence_is_never_seen_twice(text: str, pieces: str) -> None:
    said, looping = passed(text, pieces)
    assert looping
    assert said.lower().count("the gpu") == 1
    assert TAINT in said


def test_markers_make_no_other_sentence() -> None:
    assert passed(f"{TAINT} [1]\n{TAINT} [2]\n") == (f"{TAINT} [1]\n", True)


@pytest.mark.parametrize(
    ("text", "most"),
    [
        ("a pool of the pool of the " + "pool of the " * 50, 10),
        ("Yes. " * 30, 4),
        ("and so on, " * 30, 6),
        ("0 1 " * 100, 6),
        ("これは長い文章です。" * 3, 1),
    ],
)
def test_words_said_over_and_over_end(text: str, most: int) -> None:
    said, looping = passed(text)
    assert looping
    assert len(said.split()) <= most


@pytest.mark.parametrize(
    "text",
    [
        f"{TAINT} The GPU node pools carry the label isthmus.dev/pool as well. Yes, it is.",
        "Does A run? Yes, it does. Does B run? Yes, it does. Does C? Yes, it does.",
        "| --- | --- | --- | --- | --- | --- |\n| 1 | 1 | 1 | 1 | 1 | 1 |\n" * 2,
        CODE,
        f"{TAINT}\n{CODE}\nThat is all.",
        f"{TAINT} The GPU node",
        "no no no, never",
        "Pool A carries the taint x=y. Pool B carries the taint x=y. Pool C carries the taint x=y.",
    ],
)
@pytest.mark.parametrize("pieces", [r"\s*\S+|\s+$", r".", r".+"])
def test_what_is_not_a_loop_passes_whole(text: str, pieces: str) -> None:
    assert passed(text, pieces) == (text, False)


def test_new_text_is_not_held_back() -> None:
    guard = LoopGuard()
    for word in re.findall(r"\s*\S+", f"{TAINT} It keeps other pods away from them."):
        assert guard.feed(word) == word
    assert guard.feed(" The GPU") == " "
    assert guard.feed(" nodes") == "The GPU nodes"
