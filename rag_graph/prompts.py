"""What the LLM is sent: shared head first, passages in a canonical order, question last.

The LLM service skips the prefill of a prefix that it has seen. Two questions over the same
passages therefore differ in their tails only: docs/retrieval.md, "Prompt layout".
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import replace

from contracts.openai import ChatMessage
from rag_graph.state import Passage

HEAD = (
    "Answer the question from the passages. Cite the passage that you use by its number, like [1]."
)
"""Short, and without a way out: told to say so when the passages hold no answer, SmolLM2 says so
of every question (docs/experiments.md). Abstaining is decided before the model is asked."""
MARKER = re.compile(r"\[(\d{1,3}(?:\s*,\s*\d{1,3})*)\]")
"""A citation marker: [1] or [1, 2]."""
BYTES_PER_TOKEN = 3
"""Bytes of UTF-8 a token stands for, at the low end for English: the budget errs to be kept."""
WRAPPING_TOKENS = 16
"""What the tags around a passage cost, besides its title."""


def estimate_tokens(text: str) -> int:
    """Return about how many tokens `text` has, rather too many than too few."""
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


def select(passages: Sequence[Passage], budget: int) -> tuple[Passage, ...]:
    """Return the passages to send, in canonical order: passage `n` of a prompt is the n-th.

    The best passages that fit are kept. The first one that does not fit is cut after its last
    sentence that does; those after it are left out.

    Args:
        passages: best first.
        budget: the most tokens that they may take, tags included.
    """
    kept = []
    for passage in passages:
        room = budget - estimate_tokens(passage.title) - WRAPPING_TOKENS
        text = _cut(passage.text, room)
        if text:
            kept.append(replace(passage, text=text))
            budget = room - estimate_tokens(text)
        if text != passage.text:
            break
    return tuple(sorted(kept, key=lambda p: (p.source, p.page or 0, p.chunk_id)))


def _cut(text: str, room: int) -> str:
    """Return as many whole sentences of `text` as `room` tokens hold."""
    if estimate_tokens(text) <= room:
        return text
    end = 0
    for sentence in sentences(text):
        after = text.index(sentence, end) + len(sentence)
        if estimate_tokens(text[:after]) > room:
            break
        end = after
    return text[:end]


def sentences(text: str) -> list[str]:
    """Split `text` after sentence ends and line breaks. A point inside a word ends nothing."""
    parts = re.split(r"(?<=[.!?])\s+|\n+", text)
    return [part.strip() for part in parts if part.strip()]


def without_markers(text: str) -> str:
    """Return `text` less its citation markers."""
    return re.sub(r"\s*" + MARKER.pattern, "", text)


def messages(
    question: str, history: Sequence[ChatMessage], passages: Sequence[Passage]
) -> list[ChatMessage]:
    """Return the conversation to send. System turns of `history` join the one system message."""
    instructions, turns = _parted(history)
    head = "\n\n".join([HEAD, *instructions, *blocks(passages)])
    return [
        ChatMessage(role="system", content=head),
        *turns,
        ChatMessage(role="user", content=question),
    ]


def conversation(question: str, history: Sequence[ChatMessage]) -> list[ChatMessage]:
    """Return the conversation to send where no passages were searched for."""
    instructions, turns = _parted(history)
    head = [ChatMessage(role="system", content="\n\n".join(instructions))] if instructions else []
    return [*head, *turns, ChatMessage(role="user", content=question)]


def _parted(history: Sequence[ChatMessage]) -> tuple[list[str], list[ChatMessage]]:
    """Return the texts of the system turns, and the other turns."""
    instructions = [turn.text for turn in history if turn.role in ("system", "developer")]
    return instructions, [turn for turn in history if turn.role in ("user", "assistant")]


def blocks(passages: Sequence[Passage]) -> list[str]:
    """Return the passages as a prompt shows them, numbered."""
    return [
        f'<passage id="{n}" title="{html.escape(p.title)}">{_neutral(p.text)}</passage>'
        for n, p in enumerate(passages, start=1)
    ]


def _neutral(text: str) -> str:
    """Disarm tags in a document's text that would end its passage or begin another."""
    return re.sub(r"<(/?)passage", r"&lt;\1passage", text, flags=re.IGNORECASE)
