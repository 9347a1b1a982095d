"""One answer, written as it comes: markers checked, repetitions stopped, the reader told."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from contracts.openai import Usage
from rag_graph.citations import MarkerFilter
from rag_graph.llm.transcript import End, Output, Piece
from rag_graph.repetition import LoopGuard
from rag_graph.routing import ModelEntry
from rag_graph.state import Token

Outputs = AsyncGenerator[tuple[ModelEntry, Output], None]


@dataclass(frozen=True, slots=True)
class Written:
    """A whole answer."""

    text: str
    end: End
    model: ModelEntry
    usage: Usage | None
    """What it took; estimated if it was stopped, since the model then sends no counts."""
    removed_markers: int
    repetition_stopped: bool


class Draft:
    """What has been written, and passed on to the reader."""

    def __init__(self, passages: int | None, write: Callable[[Token], None]) -> None:
        self._markers = MarkerFilter(passages)
        self._guard = LoopGuard()
        self._write = write
        self._written: list[str] = []
        self._tokens = 0  # of what was not passed on yet

    @property
    def text(self) -> str:
        """What the reader has seen."""
        return "".join(self._written)

    @property
    def removed_markers(self) -> int:
        """Markers that pointed to no passage."""
        return self._markers.removed

    @property
    def looping(self) -> bool:
        """Whether the model repeats itself; what it says from then on is not passed on."""
        return self._guard.looping

    def add(self, piece: Piece) -> None:
        """Pass on what can be passed on."""
        self._tokens += piece.tokens
        self._pass_on(self._guard.feed(self._markers.feed(piece.text)))

    def end(self) -> None:
        """Pass on what was held back."""
        self._pass_on(self._guard.feed(self._markers.flush()) + self._guard.flush())

    def _pass_on(self, text: str) -> None:
        if text:
            self._written.append(text)
            self._write(Token(text, self._tokens))
            self._tokens = 0


async def write(
    answers: Outputs,
    passages: int | None,
    prompt_tokens: int,
    writer: Callable[[Token], None],
) -> Written:
    """Pass on the answer of a model until it ends or repeats itself, which closes the stream.

    Args:
        answers: a stream that does not break off holds one `End`, at its end.
        passages: how many were sent; None where nothing was searched.
        prompt_tokens: about how many were sent, for an answer that is stopped.
        writer: where to.

    Raises:
        LLMError: the model failed.
    """
    draft, tokens = Draft(passages, writer), 0
    async with aclosing(answers):
        async for entry, output in answers:
            if isinstance(output, Piece):
                tokens += output.tokens
                draft.add(output)
            else:
                draft.end()
                return _written(draft, output, entry, output.usage)
            if draft.looping:
                counted = Usage.of(prompt_tokens, tokens)
                return _written(draft, End("stop", None, entry.name), entry, counted)
    raise AssertionError("a stream of a model ended without its end")


def _written(draft: Draft, end: End, model: ModelEntry, usage: Usage | None) -> Written:
    return Written(draft.text, end, model, usage, draft.removed_markers, draft.looping)
