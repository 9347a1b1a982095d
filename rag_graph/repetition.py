"""Noticing that a model goes round in circles. Pure.

A small model, decoded greedily, often says the right sentence and then the same one again, without
end. What may become a repetition is held back until it is one or turns out not to be.
"""

from __future__ import annotations

import re
from bisect import bisect_left, insort
from collections import defaultdict

from rag_graph.prompts import without_markers

MIN_BYTES = 24
"""Of UTF-8: a shorter sentence ("Yes, it is.") may well be said twice."""
LONGEST_CYCLE = 32
"""Words of the longest run that is looked for; what is longer has whole sentences."""
ROUNDS = 3
"""Times that such a run has to be said,"""
CYCLE_WORDS = 12
"""and the words that all its rounds have to have,"""
WORDLESS_CYCLE_WORDS = 100
"""or this many if they are numbers or signs, as in tables, or in fenced code."""
HELD_WORDS = 3
"""Words that are like those before them from which on they are held back."""

_PIECE = re.compile(r"\s+|[^\s。！？]+[。！？]?|[。！？]")
"""White space, a word or a part of one: a sentence's end is the end of a piece."""
_END = re.compile(r"(?:[.!?]['\")\]]*\s+|[。！？]|\n\s*)$")
_BREAKS = frozenset(" \t\r\n。！？")
_BULLET = re.compile(r"^\s*(?:[-*•>#]+(?:\s|$)|\d+(?:[.)]\s|[.)]?$))?\s*")
_FENCE = "```"


class LoopGuard:
    """Passes a stream of text on until it repeats itself.

    A sentence or line of `MIN_BYTES` that was said before is a repetition, and so are words said
    over and over. Lines of fenced code and of tables may repeat. Citation markers come in one
    piece, as `MarkerFilter` passes them on.
    """

    def __init__(self) -> None:
        self._said: list[str] = []  # sorted
        self._cycle = _Cycle()
        self._sentence = ""  # the one that has begun
        self._is_new = False  # it cannot become one that was said
        self._held = ""
        self._fenced = False
        self.looping = False
        """Whether the text has begun to repeat itself; nothing is passed on from then on."""

    def feed(self, text: str) -> str:
        """Return what of the stream so far can be passed on."""
        return "".join(map(self._feed, _PIECE.findall(text)))

    def flush(self) -> str:
        """Return what was held back, at the stream's end, unless it was said before."""
        if self._held and self._repeats(whole=False):
            self.looping = True
        return "" if self.looping else self._held

    def _feed(self, piece: str) -> str:
        if self.looping:
            return ""
        self._sentence += piece
        self._held += piece
        self._cycle.feed(piece)
        if piece[-1] in _BREAKS and _END.search(self._sentence, max(0, len(self._sentence) - 8)):
            self._close()
        self.looping |= self._cycle.is_closed(fenced=self._fenced)
        if self.looping or self._may_repeat():
            return ""
        passed, self._held = self._held, ""
        return passed

    def _close(self) -> None:
        """End the sentence, if that was more than a bullet."""
        if not (key := _key(self._sentence)):
            return
        self._fenced ^= self._sentence.count(_FENCE) % 2 == 1
        self.looping = self._repeats(whole=True)
        insort(self._said, key)
        self._sentence, self._is_new = "", False

    def _repeats(self, *, whole: bool) -> bool:
        """Whether the sentence, or all there is of it, was said before."""
        key = _key(self._sentence)
        is_prose = any(map(str.isalpha, key)) and not key.startswith("|")
        if self._fenced or not is_prose or len(key.encode()) < MIN_BYTES:
            return False
        return self._begins_a_said(key) and (not whole or key in self._said)

    def _may_repeat(self) -> bool:
        if self._cycle.words >= HELD_WORDS:
            return True
        if self._fenced or self._is_new or not self._sentence:
            return False
        key = _key(self._sentence)
        self._is_new = not self._begins_a_said(key)
        is_marker = not key and "[" in self._sentence  # it belongs to the sentence before
        return not self._is_new and not is_marker

    def _begins_a_said(self, key: str) -> bool:
        next_one = bisect_left(self._said, key)
        return next_one < len(self._said) and self._said[next_one].startswith(key)


class _Cycle:
    """Words said over and over, wherever sentences end."""

    def __init__(self) -> None:
        self._count = 0
        self._places: dict[str, list[int]] = defaultdict(list)
        self._runs: dict[int, int] = {}  # by period, the latest words that are like those before
        self._spoken = False  # the latest word has letters, or one of its run
        self._begun = ""
        self.words = 0
        """Latest words that are like those one period before."""

    def feed(self, piece: str) -> None:
        """Take in a word, a part of one, or white space, which ends one."""
        if not piece.isspace():
            self._begun += piece
        elif self._begun:
            self._add(self._begun)
            self._begun = ""

    def is_closed(self, *, fenced: bool) -> bool:
        """Whether the latest words are a repetition."""
        least = CYCLE_WORDS if self._spoken and not fenced else WORDLESS_CYCLE_WORDS
        return any(
            run + period >= max(ROUNDS * period, least) for period, run in self._runs.items()
        )

    def _add(self, word: str) -> None:
        here, self._count = self._count, self._count + 1
        places = [place for place in self._places[word] if here - place <= LONGEST_CYCLE]
        self._places[word] = [*places, here]
        self._runs = {here - place: self._runs.get(here - place, 0) + 1 for place in places}
        self.words = max(self._runs.values(), default=0)
        self._spoken = any(map(str.isalpha, word)) or (self._spoken and self.words > 0)


def _key(sentence: str) -> str:
    """Return what makes a sentence the same as another: markers, bullets and case do not count."""
    return " ".join(_BULLET.sub("", without_markers(sentence)).lower().split())
