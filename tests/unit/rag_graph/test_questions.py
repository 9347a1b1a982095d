"""What the model makes of a question is believed only if it looks like one."""

from __future__ import annotations

import pytest

from contracts.openai import ChatMessage
from rag_graph import questions
from rag_graph.evidence import evidence, is_enough
from tests.support.rag import passage

HISTORY = [
    ChatMessage(role="user", content="Who runs the pools?"),
    ChatMessage(role="assistant", content="Azure does."),
]


@pytest.mark.parametrize(
    ("rewritten", "expected"),
    [
        ('"Which taint do the pools carry?"', "Which taint do the pools carry?"),
        ("Does Azure charge for it?", "Does Azure charge for it?"),
        ("", "Who runs the pools? And the taint?"),
        ("Sure!\nHere it is: pools", "Who runs the pools? And the taint?"),
        ("pools " * 100, "Who runs the pools? And the taint?"),
        ("Something unrelated entirely", "Who runs the pools? And the taint?"),
    ],
)
def test_standalone(rewritten: str, expected: str) -> None:
    assert questions.standalone("And the taint?", HISTORY, rewritten) == expected


def test_the_rewrite_prompt_holds_the_conversation_and_ends_with_the_question() -> None:
    (message,) = questions.rewrite_prompt("And the taint?", HISTORY)
    assert "user: Who runs the pools?\nassistant: Azure does." in message.text
    assert message.text.endswith("And the taint?")


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Which taint do the GPU pools carry?", False),
        ("What are retries and timeouts?", False),
        ("Who built it and when was it opened?", True),
        ("Compare LanceDB and Postgres.", True),
        ("What is the difference between a taint and a label?", True),
    ],
)
def test_multi_hop_questions_are_known_by_their_form(question: str, expected: bool) -> None:
    assert questions.is_multi_hop(question) is expected


def test_parts_are_questions_about_the_question() -> None:
    listed = "1) Who built it?\n* When was it opened?\nWho built it?\nNo question\nWhy is rain wet?"
    whole = "Who built it and when was it opened?"
    assert questions.parts(whole, listed, 3) == (whole, "Who built it?", "When was it opened?")
    assert questions.parts(whole, listed, 1) == (whole, "Who built it?")
    assert questions.parts(whole, "rubbish", 3) == (whole,)


def test_evidence_adds_nearness_and_words() -> None:
    found = [passage("GPU pools are large.", 1, similarity=0.4), passage("taint", 2)]
    assert evidence("Which GPU pools taint?", found) == pytest.approx(0.4 + 0.5 * 2 / 3)
    assert evidence("x", []) == 0.0
    assert evidence("x", [passage("y")]) is None
    assert is_enough(None, 1.0)
    assert not is_enough(0.4, 0.5)
