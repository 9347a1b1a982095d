"""One sequence's answer: from token ids to text, ended by the engine or by a stop string."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from llm_backend.api.stops import StopStrings
from llm_backend.api.tool_calls import Call, ToolCallReader
from llm_backend.models.detokenizer import Detokenizer
from llm_backend.runtime import ipc

FinishReason = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True, slots=True)
class Piece:
    """What one step added to an answer."""

    index: int
    text: str
    tokens: list[tuple[int, ipc.TokenLogprob]] = field(default_factory=list)
    """The new tokens with their log probabilities, when they were asked for."""
    finish_reason: FinishReason | None = None
    calls: list[Call] = field(default_factory=list)
    """What was added to the answer's tool calls."""


class Choice:
    """Assembles one answer. Counts are of tokens generated up to the answer's end, no further.

    Args:
        index: its place in the response.
        detokenizer: fresh.
        stops: fresh.
        reader: finds tool calls in the text; None where the request offers no tools.
        min_tokens: no stop string ends in the text of these first tokens.
    """

    def __init__(
        self,
        index: int,
        detokenizer: Detokenizer,
        stops: StopStrings,
        reader: ToolCallReader | None = None,
        min_tokens: int = 0,
    ) -> None:
        self._index = index
        self._detokenizer = detokenizer
        self._stops = stops
        self._reader = reader
        self._min_tokens = min_tokens
        self._texts: list[str] = []
        self.tokens: list[tuple[int, ipc.TokenLogprob]] = []
        self.completion_tokens = 0
        self.cached_tokens = 0
        self.finish_reason: FinishReason | None = None

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(self._texts)

    @property
    def calls(self) -> list[Call]:
        """The tool calls so far."""
        return self._reader.calls if self._reader is not None else []

    def take(self, output: ipc.Output) -> Piece:
        """Add what a step brought; `finish_reason` tells whether it was the last."""
        self.cached_tokens = output.cached_tokens
        text = ""
        before = self.completion_tokens
        for number, token_id in enumerate(output.token_ids, 1):
            self.completion_tokens += 1
            if not (output.stop_token and number == len(output.token_ids)):
                text += self._push(self._detokenizer.push(token_id))
            if self._stops.found:
                break
        text += self._finish(output.finish_reason)
        counted = self.completion_tokens - before
        tokens = list(zip(output.token_ids[:counted], output.logprobs or (), strict=False))
        self.tokens += tokens
        calls: list[Call] = []
        if self._reader is not None:
            text, calls = self._read(self._reader, text)
        self._texts.append(text)
        return Piece(self._index, text, tokens, self.finish_reason, calls)

    def _push(self, text: str) -> str:
        """Pass text through the stop strings."""
        return self._stops.push(text, may_stop=self.completion_tokens > self._min_tokens)

    def _read(self, reader: ToolCallReader, text: str) -> tuple[str, list[Call]]:
        """Part new text into what is said and what is called."""
        said, calls = reader.push(text)
        if self.finish_reason is not None:
            rest, more = reader.flush()
            said, calls = said + rest, calls + more
            if self.finish_reason == "stop" and reader.calls:
                self.finish_reason = "tool_calls"
        return said, calls

    def _finish(self, reason: FinishReason | None) -> str:
        """Note whether the answer is over; return the text that was held back for this moment."""
        if self._stops.found:
            self.finish_reason = "stop"
        if self.finish_reason is not None or reason is None:
            return ""
        text = self._push(self._detokenizer.flush())
        self.finish_reason = "stop" if self._stops.found else reason
        return text if self._stops.found else text + self._stops.flush()
