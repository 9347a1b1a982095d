"""The bytes of single tokens, which may be part of a character: what log probabilities report."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from tokenizers import Tokenizer as FastTokenizer
from tokenizers.pre_tokenizers import ByteLevel

_BYTE_TOKEN = re.compile("<0x([0-9A-Fa-f]{2})>")


class TokenBytes:
    """Knows what each token adds to a text that something precedes.

    Args:
        fast: the tokenizer. Its decoder says how its vocabulary writes bytes: in GPT-2's alphabet
            of 256 letters, or as `<0xNN>` beside plain text.
    """

    def __init__(self, fast: FastTokenizer) -> None:
        self._fast = fast
        kinds = set(_decoders(fast))
        self._alphabet = _alphabet() if "ByteLevel" in kinds else None
        self._has_byte_tokens = "ByteFallback" in kinds
        self._added = fast.get_added_tokens_decoder()
        self._known: dict[int, bytes | None] = {}

    def of(self, token_id: int) -> bytes | None:
        """Return a token's bytes; None where they cannot be told."""
        if token_id not in self._known:
            self._known[token_id] = self._find(token_id)
        return self._known[token_id]

    def _find(self, token_id: int) -> bytes | None:
        piece = self._fast.id_to_token(token_id)
        if piece is None:
            return None
        if token_id in self._added:
            return self._added[token_id].content.encode()
        if self._alphabet is not None:
            known = all(letter in self._alphabet for letter in piece)
            return bytes(self._alphabet[letter] for letter in piece) if known else piece.encode()
        if self._has_byte_tokens and (found := _BYTE_TOKEN.fullmatch(piece)):
            return bytes.fromhex(found[1])
        return self._after_itself(token_id)

    def _after_itself(self, token_id: int) -> bytes | None:
        """Return what a second token adds: of a first one, decoders leave out the space."""
        once, twice = (self._fast.decode([token_id] * n, skip_special_tokens=False) for n in (1, 2))
        text = twice.removeprefix(once)
        return None if "\ufffd" in text else text.encode()


def _decoders(fast: FastTokenizer) -> Iterator[str]:
    """Yield the types of the tokenizer's decoders."""
    if fast.decoder is None:
        return
    waiting: list[Any] = [json.loads(fast.decoder.__getstate__())]
    while waiting:
        one = waiting.pop()
        yield one["type"]
        waiting += one.get("decoders", ())


def _alphabet() -> dict[str, int]:
    """Return the byte that each letter of GPT-2's alphabet stands for.

    Printable bytes of Latin-1 stand for themselves, the others are letters from U+0100 on, in
    order: https://github.com/openai/gpt-2/blob/master/src/encoder.py
    """
    letters = sorted(ByteLevel.alphabet())
    own = {letter: ord(letter) for letter in letters if ord(letter) < 256}
    others = (byte for byte in range(256) if chr(byte) not in own)
    return own | dict(zip(letters[len(own) :], others, strict=True))
