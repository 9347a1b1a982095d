"""Which tokens an answer may continue with, under a grammar. Compiled beside the step loop."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher, LLTokenizer

from llm_backend.engine.grammar import LIMITS

Mask = npt.NDArray[np.bool_]
_CACHED = 256  # compiled grammars, of some 100 kB each


class GuideError(Exception):
    """A grammar cannot be followed: it is wrong, too complex, or beyond the vocabulary.

    Or llguidance cannot use the model's tokenizer, so that none can.
    """


class Guides(Protocol):
    """What turns grammars into guides, without holding up the steps of other requests."""

    def compile(self, grammar: str) -> Future[Guide]:
        """Return the guide of one answer, soon; a `GuideError` if the grammar cannot be used."""


class Guide:
    """The state of one answer within its grammar.

    Attributes:
        allowed: [vocabulary] whether each token may come next; end-of-sequence tokens where the
            answer may end.

    Raises:
        GuideError: no token can come first.
    """

    def __init__(self, matcher: LLMatcher, vocab_size: int) -> None:
        self._matcher = matcher
        self._vocab_size = vocab_size
        self.allowed = self._mask()

    def advance(self, token: int) -> bool:
        """Take the answer's next token; return whether nothing can follow it.

        Raises:
            GuideError: the token was not allowed, or what can follow is too complex to compute.
        """
        if not self._matcher.consume_token(token):
            raise GuideError(self._matcher.get_error())
        if self._matcher.is_stopped():
            return True
        self.allowed = self._mask()
        return False

    def _mask(self) -> Mask:
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        if self._matcher.is_error():
            raise GuideError(self._matcher.get_error())
        allowed = np.unpackbits(bits, count=self._vocab_size, bitorder="little").view(np.bool_)
        if not allowed.any():
            raise GuideError("no token of the model's vocabulary can come next")
        return allowed


class GuideCompiler:
    """Compiles grammars in a thread of its own; llguidance works without the GIL.

    Args:
        tokenizer: the model's `tokenizer.json`; read when the first grammar comes.
        vocab_size: logits of one row.
        eos_token_ids: tokens that end an answer.
    """

    def __init__(self, tokenizer: Path, vocab_size: int, eos_token_ids: Iterable[int]) -> None:
        self._file = tokenizer
        self._vocab_size = vocab_size
        self._eos = sorted(eos_token_ids)
        self._tokenizer: LLTokenizer | None = None
        self._compiled: OrderedDict[str, LLMatcher] = OrderedDict()
        self._thread = ThreadPoolExecutor(1, "guides")

    def compile(self, grammar: str) -> Future[Guide]:
        """Return the guide of one answer, soon; see `Guides`."""
        return self._thread.submit(self._guide, grammar)

    def _guide(self, grammar: str) -> Guide:
        matcher = self._compiled.get(grammar) or self._matcher(grammar)
        self._compiled[grammar] = matcher
        self._compiled.move_to_end(grammar)
        while len(self._compiled) > _CACHED:
            self._compiled.popitem(last=False)
        return Guide(matcher.deep_copy(), self._vocab_size)

    def _matcher(self, grammar: str) -> LLMatcher:
        if self._tokenizer is None:
            self._tokenizer = self._read_tokenizer()
        try:
            matcher = LLMatcher(self._tokenizer, grammar, log_level=0, limits=LIMITS)
        except ValueError as error:
            raise GuideError(str(error)) from error
        if matcher.is_error():
            raise GuideError(matcher.get_error())
        return matcher

    def _read_tokenizer(self) -> LLTokenizer:
        try:
            return LLTokenizer(str(self._file), self._vocab_size, self._eos)
        except ValueError as error:  # llguidance has no error of its own
            raise GuideError(f"llguidance cannot use this model's tokenizer ({error})") from error
