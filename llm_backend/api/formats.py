"""The two forms an answer takes on the wire: chat completion and text completion."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Protocol

from contracts.openai import Usage
from contracts.streaming import ChatFrames, CompletionFrames
from llm_backend.api.choice import Choice, FinishReason, Piece
from llm_backend.models.tokenizer import Tokenizer
from llm_backend.runtime import ipc


class Format(Protocol):
    """How one request's answer is written."""

    def begin(self, index: int) -> bytes:
        """Return the frame with which choice `index` starts; may be empty."""

    def content(self, piece: Piece) -> bytes:
        """Return the frame of new text."""

    def calls(self, piece: Piece) -> bytes:
        """Return the frame of what was added to tool calls."""

    def finish(self, index: int, reason: FinishReason) -> bytes:
        """Return the frame that says why choice `index` ended."""

    def usage(self, usage: Usage) -> bytes:
        """Return the frame of the token counts."""

    def body(self, choices: Sequence[Choice], usage: Usage) -> bytes:
        """Return the whole answer of a request that is not streamed."""


class ChatFormat:
    """`chat.completion` and its chunks."""

    ID = "chatcmpl"

    def __init__(
        self,
        head: dict[str, Any],
        choices: int,
        tokenizer: Tokenizer,
        *,
        logprobs: bool,
    ) -> None:
        self._head = head
        self._tokenizer = tokenizer
        self._logprobs = logprobs
        self._frames = [ChatFrames(**head, index=i) for i in range(choices)]

    def begin(self, index: int) -> bytes:
        return self._frames[index].role()

    def content(self, piece: Piece) -> bytes:
        return self._frames[piece.index].content(piece.text, self._tokens(piece.tokens))

    def calls(self, piece: Piece) -> bytes:
        deltas = [call.to_wire(streamed=True) for call in piece.calls]
        return self._frames[piece.index].tool_calls(deltas)

    def finish(self, index: int, reason: FinishReason) -> bytes:
        return self._frames[index].finish(reason)

    def usage(self, usage: Usage) -> bytes:
        return self._frames[0].usage(usage)

    def body(self, choices: Sequence[Choice], usage: Usage) -> bytes:
        listed = [
            {
                "index": index,
                "message": _message(choice),
                "logprobs": self._tokens(choice.tokens),
                "finish_reason": choice.finish_reason,
            }
            for index, choice in enumerate(choices)
        ]
        return _body(self._head, "chat.completion", listed, usage)

    def _tokens(self, tokens: Sequence[tuple[int, ipc.TokenLogprob]]) -> dict[str, Any] | None:
        if not self._logprobs:
            return None
        listed = []
        for token_id, found in tokens:
            top = [self._token(other, logprob) for other, logprob in found.top]
            listed.append({**self._token(token_id, found.logprob), "top_logprobs": top})
        return {"content": listed}

    def _token(self, token_id: int, logprob: float) -> dict[str, Any]:
        known = self._tokenizer.token_bytes(token_id)
        return {
            "token": self._tokenizer.token(token_id),
            "logprob": logprob,
            "bytes": None if known is None else list(known),
        }


class TextFormat:
    """`text_completion`, whole and in chunks."""

    ID = "cmpl"

    def __init__(
        self,
        head: dict[str, Any],
        choices: int,
        tokenizer: Tokenizer,
        *,
        logprobs: bool,
    ) -> None:
        self._head = head
        self._tokenizer = tokenizer
        self._logprobs = logprobs
        self._frames = [CompletionFrames(**head, index=i) for i in range(choices)]
        # Offsets are of the answer's text, where a token may be part of a character, or no text.
        self._detokenizers = [tokenizer.detokenizer() for _ in range(choices)]
        self._offsets = [0] * choices

    def begin(self, index: int) -> bytes:
        return b""

    def content(self, piece: Piece) -> bytes:
        logprobs = self._tokens(piece.index, piece.tokens)
        return self._frames[piece.index].content(piece.text, logprobs)

    def calls(self, piece: Piece) -> bytes:
        return b""  # there are none: text completions offer no tools

    def finish(self, index: int, reason: FinishReason) -> bytes:
        return self._frames[index].finish(reason)

    def usage(self, usage: Usage) -> bytes:
        return self._frames[0].usage(usage)

    def body(self, choices: Sequence[Choice], usage: Usage) -> bytes:
        listed = [
            {
                "index": index,
                "text": choice.text,
                "logprobs": self._tokens(index, choice.tokens),
                "finish_reason": choice.finish_reason,
            }
            for index, choice in enumerate(choices)
        ]
        return _body(self._head, "text_completion", listed, usage)

    def _tokens(
        self, index: int, tokens: Sequence[tuple[int, ipc.TokenLogprob]]
    ) -> dict[str, Any] | None:
        """Return what choice `index` has of log probabilities; its tokens come in order."""
        if not self._logprobs:
            return None
        return {
            "tokens": [self._label(token_id) for token_id, _ in tokens],
            "token_logprobs": [found.logprob for _, found in tokens],
            "top_logprobs": [self._top(found) for _, found in tokens],
            "text_offset": [self._offset(index, token_id) for token_id, _ in tokens],
        }

    def _top(self, found: ipc.TokenLogprob) -> dict[str, float]:
        """Return the alternatives by label; of those that read the same, the likeliest."""
        top: dict[str, float] = {}
        for token_id, logprob in found.top:
            top.setdefault(self._label(token_id), logprob)
        return top

    def _label(self, token_id: int) -> str:
        """Return a token's text, or its bytes as OpenAI writes them where they are no text."""
        known = self._tokenizer.token_bytes(token_id)
        text = self._tokenizer.token(token_id)
        if known is None or known == text.encode():
            return text
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in known)

    def _offset(self, index: int, token_id: int) -> int:
        """Return where a token begins in its choice's text, and go on to the next."""
        offset = self._offsets[index]
        self._offsets[index] += len(self._detokenizers[index].push(token_id))
        return offset


def _message(choice: Choice) -> dict[str, Any]:
    if not choice.calls:
        return {"role": "assistant", "content": choice.text}
    calls = [call.to_wire(streamed=False) for call in choice.calls]
    return {"role": "assistant", "content": choice.text or None, "tool_calls": calls}


def _body(head: dict[str, Any], kind: str, choices: list[dict[str, Any]], usage: Usage) -> bytes:
    counts = usage.model_dump(exclude_none=True)
    return json.dumps({**head, "object": kind, "choices": choices, "usage": counts}).encode()
