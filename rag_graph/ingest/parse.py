"""Documents to text, with the page and the headings of every part.

Runs in the process that calls it; `sandbox` runs it in one that can be killed.
"""

from __future__ import annotations

from dataclasses import dataclass

from rag_graph.errors import DocumentTooLargeError, EmptyDocumentError
from rag_graph.ingest.kinds import Kind, decode, detect
from rag_graph.ingest.pdf import parse_pdf
from rag_graph.ingest.sections import Parsed, Section, from_markdown, stem


@dataclass(frozen=True, slots=True)
class Limits:
    """What one document may cost. Zero or less is no meaningful limit and not allowed."""

    max_pages: int
    max_unzipped_bytes: int
    max_text_chars: int
    timeout_s: float
    memory_bytes: int
    """Address space of the parsing process (RLIMIT_AS)."""


def parse(name: str, content: bytes, limits: Limits) -> Parsed:
    """Return the text of the document `name`.

    Raises:
        UnsupportedDocumentError: it is of no kind that can be read.
        UnreadableDocumentError: it is broken, encrypted, or not what its name says.
        EmptyDocumentError: it holds no text.
        DocumentTooLargeError: it exceeds a limit.
    """
    kind = detect(name, content, limits.max_unzipped_bytes)
    parsed = _parse(name, content, kind, limits)
    if not parsed.sections:
        raise EmptyDocumentError(
            f"{name} holds no text. If it is a scan, run text recognition (OCR) on it first."
        )
    if sum(len(section.text) for section in parsed.sections) > limits.max_text_chars:
        raise DocumentTooLargeError(
            f"{name} holds more than {limits.max_text_chars} characters of text. "
            "Split it, or raise RAG_MAX_TEXT_CHARS."
        )
    return parsed


def _parse(name: str, content: bytes, kind: Kind, limits: Limits) -> Parsed:
    if kind is Kind.PDF:
        return parse_pdf(name, content, limits.max_pages)
    if kind is Kind.MARKDOWN:
        return from_markdown(name, decode(name, content))
    if kind is Kind.TEXT:
        text = decode(name, content).strip()
        return Parsed(stem(name), (Section(text),) if text else ())
    # markitdown brings lxml and magika, half a second to import: only for who needs it.
    from rag_graph.ingest.convert import convert

    if kind in (Kind.HTML, Kind.CSV):
        content = decode(name, content).encode()
    return convert(name, content, kind)
