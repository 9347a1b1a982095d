"""Ids to text as they come, never half a character: the texts' concatenation is the whole text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_REPLACEMENT = "\ufffd"
_MOST_HELD = 64
"""A character is at most four bytes; more tokens than this are broken bytes, not half of one."""


class Detokenizer:
    """Incremental decoder of one answer: decodes the last few ids with and without the new one.

    The text of an id may depend on those before it (SentencePiece drops a leading space), so two
    decodings are compared, as in text-generation-inference. A text that ends in U+FFFD may be half
    a character and is held back. Costs 2 µs a token.

    Args:
        decode: ids to text, special tokens left out.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._read = 0
        """Ids before this one have been given out."""

    def push(self, token_id: int) -> str:
        """Return the text that this token completes, which may be empty."""
        self._ids.append(token_id)
        before, text = self._texts()
        if len(text) <= len(before):
            self._forget_if_never_text(token_id)
            return ""
        if text.endswith(_REPLACEMENT) and len(self._ids) - self._read < _MOST_HELD:
            return ""
        self._ids = self._ids[self._read :]
        self._read = len(self._ids)
        return text[len(before) :]

    def flush(self) -> str:
        """Return what is left at the answer's end: U+FFFD for bytes that never made a character."""
        before, text = self._texts()
        self._read = len(self._ids)
        return text[len(before) :]

    def _forget_if_never_text(self, token_id: int) -> None:
        """Drop the newest id if it is no text wherever it stands: such ids may come without end.

        Beside itself, since a first id may only seem to be none: SentencePiece drops its space.
        """
        if not self._decode([token_id, token_id]):
            self._ids.pop()

    def _texts(self) -> tuple[str, str]:
        return self._decode(self._ids[: self._read]), self._decode(self._ids)
