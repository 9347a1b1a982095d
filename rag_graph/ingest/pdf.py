"""PDF to text, page by page, through pypdfium2. Not thread-safe: PDFium is not."""

from __future__ import annotations

import pypdfium2

from rag_graph.errors import DocumentTooLargeError, UnreadableDocumentError
from rag_graph.ingest.sections import Parsed, Section, stem


def parse_pdf(name: str, content: bytes, max_pages: int) -> Parsed:
    """Return one section for each page that holds text.

    Raises:
        UnreadableDocumentError: the file is broken or protected by a password.
        DocumentTooLargeError: it has more than `max_pages` pages.
    """
    try:
        with pypdfium2.PdfDocument(content) as document:
            return _parse(name, document, max_pages)
    except pypdfium2.PdfiumError as error:
        raise _failure(name, error) from error


def _parse(name: str, document: pypdfium2.PdfDocument, max_pages: int) -> Parsed:
    if len(document) > max_pages:
        raise DocumentTooLargeError(
            f"{name} has {len(document)} pages; the limit is {max_pages}. "
            "Split it, or raise RAG_MAX_PAGES."
        )
    sections = tuple(
        Section(text, page=i + 1) for i in range(len(document)) if (text := _page_text(document[i]))
    )
    title = document.get_metadata_value("Title").strip()
    return Parsed(title or stem(name), sections)


def _page_text(page: pypdfium2.PdfPage) -> str:
    """Return the page's text, freeing the page: a long document would hold them all."""
    textpage = page.get_textpage()
    text: str = textpage.get_text_range()
    textpage.close()
    page.close()
    return text.replace("\r\n", "\n").replace("\x00", "").strip()


def _failure(name: str, error: pypdfium2.PdfiumError) -> UnreadableDocumentError:
    if "assword" in str(error):  # PDFium tells the kinds of failure apart in its message only
        return UnreadableDocumentError(
            f"{name} is protected by a password. Save a copy without one and ingest that."
        )
    return UnreadableDocumentError(
        f"{name} cannot be read as PDF: {error}. It may be cut off: open it, or upload it again."
    )
