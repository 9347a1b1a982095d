"""Parsed documents to chunks."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from semchunk.semchunk import chunk as cut

from rag_graph.ingest.sections import HEADING_SEPARATOR, Parsed, Section
from rag_graph.retrieval.embedder import Embedder

CONTEXT_SHARE = 4
"""A chunk's context takes at most this fraction of what the embedder reads: 1/4."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One passage: what is embedded is `context + text`."""

    chunk_id: str
    """Hash of the document's id and the content: the same content keeps its id, and its vector."""
    context: str
    """The title and headings above, or nothing; ends with a line break when not empty."""
    text: str
    page: int | None
    heading: str | None

    @property
    def content(self) -> str:
        """What is embedded and indexed."""
        return self.context + self.text


def split(document_id: str, parsed: Parsed, embedder: Embedder, chunk_tokens: int) -> list[Chunk]:
    """Return the chunks of a document, in reading order.

    A chunk never crosses a heading or a page, so that what it cites is exact. Its text has at most
    `chunk_tokens` of the embedder's tokens, fewer where the context leaves less room.
    """
    seen: Counter[str] = Counter()
    chunks = []
    for section in parsed.sections:
        context = _context(parsed.title, section, embedder)
        for text in _cut(section.text, context, embedder, chunk_tokens):
            content = context + text
            number = seen[content]
            seen[content] += 1
            chunk_id = _chunk_id(document_id, content, number)
            heading = HEADING_SEPARATOR.join(section.headings) or None
            chunks.append(Chunk(chunk_id, context, text, section.page, heading))
    return chunks


def _cut(text: str, context: str, embedder: Embedder, chunk_tokens: int) -> Iterator[str]:
    room = min(chunk_tokens, embedder.max_tokens - embedder.count(context))
    for piece in cut(text, room, embedder.count, memoize=False):
        if (whole := str(piece)).strip():
            yield whole


def _context(title: str, section: Section, embedder: Embedder) -> str:
    """Return title and headings on one line, outermost dropped first when they are too long."""
    parts = list(section.headings)
    # A title without a letter, such as a file's number, says nothing and only dilutes.
    if parts[:1] != [title] and any(c.isalpha() for c in title):
        parts.insert(0, title)
    while parts:
        context = HEADING_SEPARATOR.join(parts) + "\n"
        if embedder.count(context) <= embedder.max_tokens // CONTEXT_SHARE:
            return context
        parts.pop(0)
    return ""


def _chunk_id(document_id: str, content: str, number: int) -> str:
    """`number` tells apart equal contents of one document."""
    return hashlib.sha256(f"{document_id}\0{number}\0{content}".encode()).hexdigest()[:24]
