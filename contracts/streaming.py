"""Frames of a streamed completion, encoded at about a microsecond a token.

All frames of one stream share their head (id, created, model), so it is serialised once; the hot
path only quotes the new text. `tests/unit/contracts/test_streaming.py` holds every frame against
the pydantic types.
"""

from __future__ import annotations

import json
from typing import Any

from contracts import sse
from contracts.openai import FinishReason, Usage


class _Frames:
    """Frames whose JSON starts with one head and ends with the choices."""

    _object: str

    def __init__(self, id: str, created: int, model: str, index: int = 0) -> None:  # noqa: A002
        head = {"id": id, "object": self._object, "created": created, "model": model}
        self._head = json.dumps(head)[:-1].encode() + b', "choices": ['
        self._index = b'{"index": %d, ' % index

    def _choice(
        self, body: bytes, finish_reason: FinishReason | None, tail: bytes = b"]}"
    ) -> bytes:
        reason = b'"%s"' % finish_reason.encode() if finish_reason else b"null"
        choice = self._index + body + b', "finish_reason": ' + reason + b"}"
        return sse.encode(self._head + choice + tail)

    def usage(self, usage: Usage, **extra: Any) -> bytes:
        """Return the frame without choices that carries the token counts, and any `extra` keys."""
        tail = {"usage": usage.model_dump(exclude_none=True), **extra}
        return sse.encode(self._head + b"], " + json.dumps(tail).encode()[1:])


class ChatFrames(_Frames):
    """Frames of one `chat.completion.chunk` stream."""

    _object = "chat.completion.chunk"

    def role(self) -> bytes:
        """Return the first frame: the assistant begins to speak."""
        return self._choice(b'"delta": {"role": "assistant", "content": ""}', None)

    def content(self, text: str, logprobs: Any = None) -> bytes:
        """Return the frame that adds `text` to the answer, and its tokens' `logprobs` if any."""
        delta = b'"delta": {"content": ' + json.dumps(text).encode() + b"}"
        return self._choice(delta + _logprobs(logprobs), None)

    def aside(self, **extra: Any) -> bytes:
        """Return a frame that adds nothing to the answer and carries the `extra` keys."""
        return self._choice(b'"delta": {}', None, b"], " + json.dumps(extra).encode()[1:])

    def tool_calls(self, deltas: list[dict[str, Any]]) -> bytes:
        """Return the frame that adds to the answer's tool calls."""
        return self._choice(b'"delta": {"tool_calls": ' + json.dumps(deltas).encode() + b"}", None)

    def finish(self, reason: FinishReason, **extra: Any) -> bytes:
        """Return the frame that says why the answer ended, and carries any `extra` keys."""
        tail = b"], " + json.dumps(extra).encode()[1:] if extra else b"]}"
        return self._choice(b'"delta": {}', reason, tail)


class CompletionFrames(_Frames):
    """Frames of one `text_completion` stream."""

    _object = "text_completion"

    def content(self, text: str, logprobs: Any = None) -> bytes:
        """Return the frame that adds `text` to the completion, and `logprobs` if any."""
        return self._choice(b'"text": ' + json.dumps(text).encode() + _logprobs(logprobs), None)

    def finish(self, reason: FinishReason) -> bytes:
        """Return the frame that says why the completion ended."""
        return self._choice(b'"text": ""', reason)


def _logprobs(logprobs: Any) -> bytes:
    return b"" if logprobs is None else b', "logprobs": ' + json.dumps(logprobs).encode()
