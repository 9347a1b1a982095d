"""From an answer back to the passages that bear it out.

The model's markers count first. A small model may set none: then each statement is matched to the
passage sentence that holds most of its words, and the citation says that it was matched.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rag_graph.prompts import MARKER, sentences
from rag_graph.state import Citation, Passage
from rag_graph.words import words

_PLACE = re.compile(MARKER.pattern + r"|`+|\n")
"""A marker, or what may begin or end code, in which nothing is a marker."""
_OPENING = re.compile(r"(?:\[[\d\s,]*|`+)$")
_LONGEST_MARKER = 32
_FENCE = 3
"""Backticks of a fence: code after fewer ends with its line, as the page shows it."""

SUPPORT = 0.6
"""Share of a statement's words that a sentence must hold to be cited for it."""
MIN_WORDS = 2
"""Fewer words than this say too little to be matched."""


class MarkerFilter:
    """Passes a stream of text on without the markers that point to no passage.

    What looks like one in code stays. Text is held back only while it may be the beginning of a
    marker or of code.
    """

    def __init__(self, passages: int | None) -> None:
        """Make a filter for an answer from that many; None: nothing was searched, all stays."""
        self._passages = passages
        self._held = ""
        self._code = 0
        self.removed = 0
        """Numbers removed so far."""

    def feed(self, text: str) -> str:
        """Return what of the stream so far can be passed on."""
        if not (self._held or "[" in text or "`" in text or (self._code and "\n" in text)):
            return text
        text = self._held + text
        opening = _OPENING.search(text)
        cut = opening.start() if opening and len(text) - opening.start() < _LONGEST_MARKER else None
        self._held = text[cut:] if cut is not None else ""
        return _PLACE.sub(self._keep, text[:cut])

    def flush(self) -> str:
        """Return what was held back, at the stream's end."""
        held, self._held = self._held, ""
        return held

    def _keep(self, place: re.Match[str]) -> str:
        if place[1] is None:
            self._code = _code_after(self._code, place[0])
        if place[1] is None or self._code or self._passages is None:
            return place[0]
        numbers = [int(number) for number in place[1].split(",")]
        good = [number for number in numbers if 1 <= number <= self._passages]
        self.removed += len(numbers) - len(good)
        if good == numbers:
            return place[0]
        return "".join(f"[{number}]" for number in good)


def _code_after(code: int, seen: str) -> int:
    """Return how many backticks began the code that goes on after `seen`; 0 outside of code.

    Args:
        code: the same before it.
        seen: some backticks, or a line's end.
    """
    if seen == "\n":
        return code if code >= _FENCE else 0
    if not code:
        return len(seen)
    ends = len(seen) >= code if code >= _FENCE else len(seen) == code
    return 0 if ends else code


def _markers(answer: str) -> Iterator[re.Match[str]]:
    """Yield the markers outside of code."""
    code = 0
    for place in _PLACE.finditer(answer):
        if place[1] is None:
            code = _code_after(code, place[0])
        elif not code:
            yield place


@dataclass(frozen=True, slots=True)
class _Support:
    """How well a sentence of a passage bears a statement out, 0 to 1."""

    number: int
    quote: str
    share: float


@dataclass(frozen=True, slots=True)
class _Source:
    """A passage, read once for all statements."""

    number: int
    score: float
    sentences: Sequence[tuple[str, frozenset[str]]]
    """With their words."""

    @classmethod
    def of(cls, number: int, passage: Passage) -> _Source:
        texts = sentences(passage.text) or [passage.text]
        return cls(number, passage.score, [(text, words(text)) for text in texts])

    def support(self, wanted: frozenset[str]) -> _Support:
        """Return the sentence that holds most of the wanted words."""
        quote, held = max(self.sentences, key=lambda sentence: len(wanted & sentence[1]))
        return _Support(self.number, quote, len(wanted & held) / len(wanted) if wanted else 0.0)


def cite(answer: str, passages: Sequence[Passage]) -> tuple[Citation, ...]:
    """Return the citations of `answer`, one a passage, in the passages' order.

    Args:
        answer: what in it points to no passage is no marker.
        passages: as they were sent: marker [n] is the n-th.
    """
    origin: Literal["model", "matched"] = "model"
    sources = [_Source.of(n, passage) for n, passage in enumerate(passages, start=1)]
    supports = list(_marked(answer, sources))
    if not supports:
        origin = "matched"
        supports = list(_matched(answer, sources))
    best: dict[int, _Support] = {}
    for support in supports:
        if support.number not in best or support.share > best[support.number].share:
            best[support.number] = support
    return tuple(_citation(best[n], passages[n - 1], origin) for n in sorted(best))


def _marked(answer: str, sources: Sequence[_Source]) -> Iterator[_Support]:
    """Yield a support for every marker: the statement is what stands before it."""
    begin = 0
    statement = ""
    for marker in _markers(answer):
        # Of [1][2], both mark the same statement.
        before = sentences(answer[begin : marker.start()])
        statement = before[-1] if before else statement
        begin = marker.end()
        for number in map(int, marker[1].split(",")):
            if 1 <= number <= len(sources):
                yield sources[number - 1].support(words(statement))


def _matched(answer: str, sources: Sequence[_Source]) -> Iterator[_Support]:
    """Yield the best support of every statement that has a good one."""
    for statement in sentences(answer):
        wanted = words(statement)
        if len(wanted) < MIN_WORDS or not sources:
            continue
        supports = [(source.support(wanted), source.score) for source in sources]
        best, _ = max(supports, key=lambda found: (found[0].share, found[1]))
        if best.share >= SUPPORT:
            yield best


def _citation(support: _Support, passage: Passage, origin: Literal["model", "matched"]) -> Citation:
    return Citation(
        number=support.number,
        chunk_id=passage.chunk_id,
        document_id=passage.document_id,
        title=passage.title,
        source=passage.source,
        page=passage.page,
        heading=passage.heading,
        quote=support.quote,
        score=round(support.share, 3),
        origin=origin,
    )
