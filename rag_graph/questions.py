"""Questions rewritten and taken apart by the model, and checks of what it made of them. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from contracts.openai import ChatMessage
from rag_graph.words import words

REWRITE_TOKENS = 64
"""Longest rewritten question, and longest list of parts, per part."""
HISTORY_TURNS = 6
"""Turns that a follow-up may refer to; older ones say little about it."""
_LONGEST = 400
_INTERROGATIVES = r"(?:who|what|when|where|which|why|how)"
_TWO_QUESTIONS = re.compile(rf"\b{_INTERROGATIVES}\b.*\b(?:and|then)\s+{_INTERROGATIVES}\b", re.I)
_COMPARISON = re.compile(
    r"\b(?:compare[ds]?|differences? between|differ from|versus|vs\.?)\b", re.I
)
_SMALL_TALK = re.compile(
    r"(?:hi|hello|hey|good (?:morning|afternoon|evening|night)|great|perfect|ok(?:ay)?|cool|bye|"
    r"thanks?(?: you)?(?: (?:very|so) much| a lot)?|goodbye|see you|how are you|who are you|"
    r"what can you do)(?:[,\s]+(?:there|all|again|then|today))?",
    re.I,
)
_ABOUT_THE_ANSWER = re.compile(
    r"(?:please\s+|(?:can|could) you\s+)?(?:translate|rephrase|reword|rewrite|shorten|repeat|"
    r"summari[sz]e|condense)\b.{0,40}\b(?:that|it|your (?:last )?answer|the above|again)\b.{0,60}",
    re.I,
)
_BULLET = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s*")


def rewrite_prompt(question: str, history: Sequence[ChatMessage]) -> list[ChatMessage]:
    """Return the request to make a follow-up understandable alone."""
    turns = [turn for turn in history if turn.role in ("user", "assistant")][-HISTORY_TURNS:]
    told = "\n".join(f"{turn.role}: {turn.text}" for turn in turns)
    asked = (
        f"Conversation:\n{told}\n\nRewrite this follow-up question so that it can be understood "
        f"without the conversation. Reply with the question only.\n\n{question}"
    )
    return [ChatMessage(role="user", content=asked)]


def standalone(question: str, history: Sequence[ChatMessage], rewritten: str) -> str:
    """Return the rewritten question if it is one, else the last question with the follow-up.

    One short line that takes up a word of the follow-up or of the conversation is believed.
    """
    line = rewritten.strip().strip('"')
    told = " ".join(turn.text for turn in history)
    if line and "\n" not in line and len(line) <= _LONGEST and words(line) & words(told + question):
        return line
    asked = [turn.text for turn in history if turn.role == "user"]
    return f"{asked[-1]} {question}" if asked else question


def is_small_talk(question: str, history: Sequence[ChatMessage]) -> bool:
    """Whether no document is needed: a greeting, or a wish about the answer that was just given.

    A short list rather than a model: wrongly searching costs milliseconds, wrongly not searching
    costs a grounded answer.
    """
    text = question.strip().rstrip(".!?… ")
    if _SMALL_TALK.fullmatch(text):
        return True
    answered = any(turn.role == "assistant" for turn in history)
    return answered and bool(_ABOUT_THE_ANSWER.fullmatch(text))


def is_multi_hop(question: str) -> bool:
    """Whether the question asks for several things that may stand in different places."""
    return bool(_TWO_QUESTIONS.search(question) or _COMPARISON.search(question))


def decompose_prompt(question: str, most: int) -> list[ChatMessage]:
    """Return the request to take a question apart."""
    asked = (
        f"Split this question into at most {most} simple questions that can be looked up one by "
        f"one. Reply with one question a line, nothing else.\n\n{question}"
    )
    return [ChatMessage(role="user", content=asked)]


def parts(question: str, listed: str, most: int) -> tuple[str, ...]:
    """Return the whole question and the usable ones of the parts that a model listed."""
    lines = [_BULLET.sub("", line).strip() for line in listed.splitlines()]
    good = [line for line in lines if _is_part(line, question)]
    return tuple(dict.fromkeys([question, *good]))[: most + 1]


def _is_part(line: str, question: str) -> bool:
    return line.endswith("?") and len(line) <= _LONGEST and bool(words(line) & words(question))
