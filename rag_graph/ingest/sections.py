"""What a parsed document is, and Markdown cut into its sections."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePosixPath

from markdown_it import MarkdownIt

HEADING_SEPARATOR = " > "
_LINE_END = re.compile(r"\r\n?|\n")
"""What ends a line in CommonMark. `str.splitlines` also splits at the soft line breaks of slides,
form feeds and others: the parser's line numbers would then be of other lines."""


@dataclass(frozen=True, slots=True)
class Section:
    """A run of text under one heading, or on one page."""

    text: str
    page: int | None = None
    """Page or slide, counted from 1."""
    headings: tuple[str, ...] = ()
    """Outermost first."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """A document's text in reading order."""

    title: str
    sections: tuple[Section, ...]


def stem(name: str) -> str:
    """Return the title of a document that has none: its file's name."""
    return PurePosixPath(name).stem or name


def from_markdown(name: str, text: str) -> Parsed:
    """Return Markdown cut at its headings; its first heading is its title."""
    sections = tuple(markdown_sections(text))
    top = next((s.headings[0] for s in sections if s.headings), None)
    return Parsed(top or stem(name), sections)


def markdown_sections(text: str, page: int | None = None) -> Iterator[Section]:
    """Cut Markdown at its headings, those in code blocks and quotes not counted.

    A heading with nothing below it, such as a slide's that has only a title, is its own text.
    """
    lines = _LINE_END.split(text)
    path: list[tuple[int, str]] = []
    begin = 0
    for level, title, first, after in _headings(text):
        yield from _section(lines[begin:first], path, page, next_level=level)
        path = [*(entry for entry in path if entry[0] < level), (level, title)]
        begin = after
    yield from _section(lines[begin:], path, page, next_level=0)


def _section(
    lines: list[str], path: list[tuple[int, str]], page: int | None, next_level: int
) -> Iterator[Section]:
    text = "\n".join(lines).strip()
    if not text and path and next_level <= path[-1][0]:
        text = path[-1][1]
    if text:
        yield Section(text, page, tuple(title for _, title in path))


def _headings(text: str) -> Iterator[tuple[int, str, int, int]]:
    """Yield level, title, first line and the line after each heading."""
    tokens = MarkdownIt("commonmark").parse(text)
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open" and opening.level == 0 and opening.map:
            title = "".join(
                " " if child.type in {"softbreak", "hardbreak"} else child.content
                for child in inline.children or ()
            )
            yield int(opening.tag[1:]), " ".join(title.split()), opening.map[0], opening.map[1]
