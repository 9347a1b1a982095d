"""HTML, office formats, CSV and EPUB to text, through markitdown's Markdown."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

from markitdown import DocumentConverter, DocumentConverterResult, StreamInfo
from markitdown.converters import (
    CsvConverter,
    DocxConverter,
    EpubConverter,
    HtmlConverter,
    PptxConverter,
)

from rag_graph.errors import UnreadableDocumentError
from rag_graph.ingest.kinds import Kind
from rag_graph.ingest.sections import Parsed, Section, from_markdown, markdown_sections, stem
from rag_graph.ingest.spreadsheet import SpreadsheetConverter

CONVERTERS: dict[Kind, type[DocumentConverter]] = {
    Kind.HTML: HtmlConverter,
    Kind.DOCX: DocxConverter,
    Kind.PPTX: PptxConverter,
    Kind.XLSX: SpreadsheetConverter,
    Kind.CSV: CsvConverter,
    Kind.EPUB: EpubConverter,
}
_SLIDE = re.compile(r"<!-- Slide number: (\d+) -->")
_PICTURE = re.compile(r"!\[[^\]]*\]\([^)]*\)")


def convert(name: str, content: bytes, kind: Kind) -> Parsed:
    """Return the document's text under its headings; slides are pages.

    Raises:
        UnreadableDocumentError: the converter failed.
    """
    info = StreamInfo(extension=f".{kind.lower()}", charset="utf-8", filename=name)
    try:
        result: DocumentConverterResult = CONVERTERS[kind]().convert(io.BytesIO(content), info)
    except MemoryError:
        raise
    except Exception as error:
        # Half a dozen parsers are behind this, each with exceptions of its own.
        raise UnreadableDocumentError(
            f"{name} cannot be read as {kind}: {_reason(error)}. "
            "It may be damaged: open it and save it anew."
        ) from error
    text = _PICTURE.sub("", result.markdown)
    if kind is Kind.PPTX:
        return _slides(name, text)
    parsed = from_markdown(name, text)
    return Parsed((result.title or "").strip() or parsed.title, parsed.sections)


def _slides(name: str, text: str) -> Parsed:
    sections = tuple(_slide_sections(text))
    titles = (section.headings[0] for section in sections if section.headings)
    return Parsed(next(titles, stem(name)), sections)


def _slide_sections(text: str) -> Iterator[Section]:
    parts = _SLIDE.split(text)
    for number, body in zip(parts[1::2], parts[2::2], strict=True):
        yield from markdown_sections(body, int(number))


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")[:200]
