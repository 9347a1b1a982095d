"""Documents to text, with the page and the headings of every part."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePosixPath

import pypdfium2
from markdown_it import MarkdownIt
from markitdown import StreamInfo
from markitdown.converters import HtmlConverter

from rag_graph.errors import (
    EmptyDocumentError,
    UnreadableDocumentError,
    UnsupportedDocumentError,
)

HEADING_SEPARATOR = " > "


@dataclass(frozen=True, slots=True)
class Section:
    """A run of text under one heading, or on one page."""

    text: str
    page: int | None = None
    """Counted from 1."""
    headings: tuple[str, ...] = ()
    """Outermost first."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """A document's text in reading order."""

    title: str
    sections: tuple[Section, ...]


def parse(name: str, content: bytes) -> Parsed:
    """Return the text of the document `name`, whose ending says what it is.

    Raises:
        UnsupportedDocumentError: no parser for its ending.
        UnreadableDocumentError: it is broken, encrypted, or not what its ending says.
        EmptyDocumentError: it holds no text.
    """
    suffix = PurePosixPath(name).suffix.lower()
    parser = PARSERS.get(suffix)
    if parser is None:
        raise UnsupportedDocumentError(
            f"{name}: files ending in {suffix or 'nothing'} cannot be read. "
            f"Convert it to one of {', '.join(sorted(PARSERS))}."
        )
    if not content.strip():
        raise EmptyDocumentError(f"{name} is empty. Check that it was saved and uploaded whole.")
    parsed = parser(name, content)
    if not parsed.sections:
        raise EmptyDocumentError(
            f"{name} holds no text. If it is a scan, run text recognition (OCR) on it first."
        )
    return parsed


def _text(name: str, content: bytes) -> Parsed:
    text = _decode(name, content).strip()
    return Parsed(_stem(name), (Section(text),) if text else ())


def _markdown(name: str, content: bytes) -> Parsed:
    return _from_markdown(name, _decode(name, content))


def _html(name: str, content: bytes) -> Parsed:
    info = StreamInfo(extension=".html", charset="utf-8")
    try:
        converted = HtmlConverter().convert(io.BytesIO(_decode(name, content).encode()), info)
    except (ValueError, RecursionError) as error:
        raise UnreadableDocumentError(f"{name} cannot be read as HTML: {error}.") from error
    parsed = _from_markdown(name, converted.markdown)
    return Parsed((converted.title or "").strip() or parsed.title, parsed.sections)


def _pdf(name: str, content: bytes) -> Parsed:
    try:
        document = pypdfium2.PdfDocument(content)
    except pypdfium2.PdfiumError as error:
        raise _pdf_error(name, error) from error
    with document:
        sections = tuple(
            Section(text, page=i + 1)
            for i in range(len(document))
            if (text := _page_text(name, document, i))
        )
        title = document.get_metadata_value("Title").strip()
    return Parsed(title or _stem(name), sections)


def _page_text(name: str, document: pypdfium2.PdfDocument, i: int) -> str:
    try:
        page = document[i]
        text: str = page.get_textpage().get_text_range()
    except pypdfium2.PdfiumError as error:
        raise _pdf_error(name, error) from error
    page.close()
    return text.replace("\r\n", "\n").replace("\x00", "").strip()


def _pdf_error(name: str, error: pypdfium2.PdfiumError) -> UnreadableDocumentError:
    if "assword" in str(error):  # pdfium tells the kinds of failure apart in its message only
        return UnreadableDocumentError(
            f"{name} is protected by a password. Save a copy without one and ingest that."
        )
    return UnreadableDocumentError(
        f"{name} cannot be read as PDF: {error}. It may be cut off: open it, or upload it again."
    )


def _from_markdown(name: str, text: str) -> Parsed:
    sections = tuple(_sections(text))
    top = next((s.headings[0] for s in sections if s.headings), None)
    return Parsed(top or _stem(name), sections)


def _sections(text: str) -> Iterator[Section]:
    """Cut Markdown at its headings, those in code blocks and quotes not counted."""
    lines = text.splitlines()
    path: list[tuple[int, str]] = []
    begin = 0
    for level, title, first, after in _headings(text):
        yield from _section(lines[begin:first], path)
        path = [*(entry for entry in path if entry[0] < level), (level, title)]
        begin = after
    yield from _section(lines[begin:], path)


def _section(lines: list[str], path: list[tuple[int, str]]) -> Iterator[Section]:
    text = "\n".join(lines).strip()
    if text:
        yield Section(text, headings=tuple(title for _, title in path))


def _headings(text: str) -> Iterator[tuple[int, str, int, int]]:
    """Yield level, title, first line and the line after each heading."""
    tokens = MarkdownIt("commonmark").parse(text)
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open" and opening.level == 0 and opening.map:
            title = "".join(child.content for child in inline.children or ())
            yield int(opening.tag[1:]), title.strip(), opening.map[0], opening.map[1]


def _decode(name: str, content: bytes) -> str:
    if b"\x00" in content[:4096] and not content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UnreadableDocumentError(f"{name} is not text: it holds zero bytes. Check its ending.")
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise UnreadableDocumentError(
            f"{name} is not UTF-8 text (byte {error.start} is wrong). Save it as UTF-8."
        ) from error


def _stem(name: str) -> str:
    return PurePosixPath(name).stem or name


PARSERS: dict[str, Callable[[str, bytes], Parsed]] = {
    ".md": _markdown,
    ".markdown": _markdown,
    ".txt": _text,
    ".text": _text,
    ".rst": _text,
    ".html": _html,
    ".htm": _html,
    ".pdf": _pdf,
}
"""Who reads what, by the lower-case ending of the name."""
