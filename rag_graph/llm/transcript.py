"""What a model says in one streamed answer: from the bytes of its frames to text and calls."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TypeAlias

from pydantic import ValidationError

from contracts import sse
from contracts.openai import ChatCompletionChunk, FinishReason, ToolCallDelta, Usage
from rag_graph.errors import LLMStreamError
from rag_graph.llm import failures


@dataclass(frozen=True, slots=True)
class Piece:
    """The next piece of generated text."""

    text: str
    tokens: int = 1
    """Frames that brought it, which is about how many tokens it has."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model wants made; nobody has checked it yet."""

    id: str
    name: str
    arguments: str
    """JSON, as the model wrote it."""


@dataclass(frozen=True, slots=True)
class End:
    """The generation's end; always the last of a stream."""

    finish_reason: FinishReason
    usage: Usage | None
    model: str
    tool_calls: tuple[ToolCall, ...] = ()
    """The calls that the model wants made before it goes on."""


Output: TypeAlias = Piece | End


class Transcript:
    """One answer as it comes in. Feed it bytes, cut anywhere."""

    def __init__(self) -> None:
        self._decoder = sse.Decoder()
        self._failure: LLMStreamError | None = None
        self._reason: FinishReason | None = None
        self._usage: Usage | None = None
        self._model = ""
        self._deltas: list[ToolCallDelta] = []
        self.started = False
        """Whether a frame came."""
        self.ended = False
        """Whether nothing follows."""

    def read(self, chunk: bytes) -> Piece | None:
        """Return the text that `chunk` completes, if any; no bytes at all are the stream's end.

        A frame that is wrong ends the answer: `end` says how, after the text before it was read.
        """
        self.ended = not chunk
        texts: list[str] = []
        try:
            for event in self._decoder.feed(chunk):
                self.started = True
                if event.data == sse.DONE:
                    self.ended = True
                    break
                texts += self._take(event.data)
        except sse.FrameTooLongError:
            self._failure = _malformed()
        except LLMStreamError as error:
            self._failure = error
        self.ended = self.ended or self._failure is not None
        return Piece("".join(texts), len(texts)) if texts else None

    def end(self) -> End:
        """Return how the answer ended.

        Raises:
            LLMStreamError: by a frame that is wrong or an error, or without a reason.
        """
        if self._failure is not None:
            raise self._failure
        if self._reason is None:
            raise LLMStreamError("The LLM service ended its answer without a reason. Ask again.")
        return End(self._reason, self._usage, self._model, self._tool_calls())

    def _take(self, data: str) -> list[str]:
        """Note what a frame says, and return the texts that it adds."""
        try:
            chunk = ChatCompletionChunk.model_validate_json(data)
        except ValidationError as error:
            raise (failures.from_frame(data) or _malformed()) from error
        self._model, self._usage = chunk.model, chunk.usage or self._usage
        for choice in chunk.choices:
            self._reason = choice.finish_reason or self._reason
            self._deltas += choice.delta.tool_calls or ()
        return [choice.delta.content for choice in chunk.choices if choice.delta.content]

    def _tool_calls(self) -> tuple[ToolCall, ...]:
        """Return the calls that the deltas add up to, in the order of their indices."""
        ids: dict[int, str] = {}
        names: dict[int, str] = defaultdict(str)
        arguments: dict[int, str] = defaultdict(str)
        for delta in self._deltas:
            ids.setdefault(delta.index, delta.id or f"call_{delta.index}")
            if delta.function is not None:
                names[delta.index] += delta.function.name or ""
                arguments[delta.index] += delta.function.arguments or ""
        return tuple(ToolCall(ids[i], names[i], arguments[i] or "{}") for i in sorted(ids))


def _malformed() -> LLMStreamError:
    return LLMStreamError("The LLM service sent a frame that is not of the contract. Ask again.")
