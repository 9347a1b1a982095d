"""Documents to text, headings and pages; bad ones to clear errors."""

from __future__ import annotations

import pytest

from rag_graph.errors import (
    DocumentError,
    DocumentTooLargeError,
    EmptyDocumentError,
    UnreadableDocumentError,
    UnsupportedDocumentError,
)
from rag_graph.ingest.parse import Limits
from rag_graph.ingest.parse import parse as parse_within
from rag_graph.ingest.sections import Parsed, Section
from tests.support import documents
from tests.support.rag import pdf

LIMITS = Limits(3, 1_000_000, 1000, 10.0, 2**31)
BINARY = bytes(range(256)) * 4


def parse(name: str, content: bytes) -> Parsed:
    return parse_within(name, content, LIMITS)


MARKDOWN = b"""Intro line.

# Guide

First *part*.

## Pools

```sh
# not a heading
```

Setext
======

After.
"""


def test_markdown_is_cut_at_its_headings() -> None:
    parsed = parse("docs/guide.md", MARKDOWN)
    assert parsed.title == "Guide"
    assert [(s.headings, s.text.split("\n")[0]) for s in parsed.sections] == [
        ((), "Intro line."),
        (("Guide",), "First *part*."),
        (("Guide", "Pools"), "```sh"),
        (("Setext",), "After."),
    ]


def test_text_is_one_section_named_after_the_file() -> None:
    parsed = parse("a/notes.txt", "\ufeffGrüße\n".encode())
    assert parsed.title == "notes"
    assert parsed.sections == (Section("Grüße"),)


def test_utf_16_with_a_mark_is_read() -> None:
    assert parse("n.txt", "Grüße".encode("utf-16")).sections[0].text == "Grüße"


def test_html_keeps_headings_and_drops_scripts() -> None:
    page = b"""<html><head><title>The Title</title><script>evil()</script></head>
    <body><h1>Top</h1><p>One &amp; two</p><h2>Sub</h2><ul><li>item</li></ul></body></html>"""
    parsed = parse("x.html", page)
    assert parsed.title == "The Title"
    assert [s.headings for s in parsed.sections] == [("Top",), ("Top", "Sub")]
    assert "One & two" in parsed.sections[0].text
    assert "evil" not in str(parsed)


def test_pdf_keeps_page_numbers_and_skips_blank_pages() -> None:
    parsed = parse("x.pdf", pdf("First page text.", "", "Third page text."))
    assert [(s.page, s.text) for s in parsed.sections] == [
        (1, "First page text."),
        (3, "Third page text."),
    ]


def test_the_bytes_say_what_a_file_is_before_its_name_does() -> None:
    assert parse("report.txt", pdf("Really a PDF.")).sections[0].page == 1
    assert parse("page", b"<!DOCTYPE html><h1>A</h1><p>b</p>").sections[0].headings == ("A",)
    assert parse("main.py", b"# not a heading\nx = 1").sections[0].headings == ()


def test_office_formats_keep_headings_slides_and_sheets() -> None:
    docx = parse("a.docx", documents.docx("Report", "Body text."))
    assert (docx.title, docx.sections[0].headings) == ("Report", ("Report",))
    assert docx.sections[0].text == "Body text."
    slides = parse("a.pptx", documents.pptx("One", "Two"))
    assert [(s.page, s.headings) for s in slides.sections] == [(1, ("One",)), (2, ("Two",))]
    rows = [["item", "price"], [None, None], ["disk|ssd", 7]]
    sheet = parse("a.xlsx", documents.xlsx("Costs", rows))
    assert sheet.sections[0].headings == ("Costs",)
    assert sheet.sections[0].text == "| item | price |\n| --- | --- |\n| disk\\|ssd | 7 |"
    book = parse("a.epub", documents.epub("My Book", "Chapter text."))
    assert "Chapter text." in str(book.sections)
    assert "a | b" in parse("a.csv", b"a,b\n1,2\n").sections[0].text


@pytest.mark.parametrize(
    ("name", "content", "kind", "words"),
    [
        ("a.exe", BINARY, UnreadableDocumentError, "is not text"),
        ("a.md", BINARY, UnreadableDocumentError, "is not text"),
        ("a.md", b" \n", EmptyDocumentError, "is empty"),
        ("a.pdf", pdf("", ""), EmptyDocumentError, "holds no text"),
        ("a.pdf", pdf("text")[:200], UnreadableDocumentError, "cannot be read as PDF"),
        ("a.pdf", b"garbage", UnreadableDocumentError, "is not a PDF file"),
        ("a.pdf", pdf("a", "b", "c", "d"), DocumentTooLargeError, "4 pages; the limit is 3"),
        ("a.txt", b"caf\xe9", UnreadableDocumentError, "not UTF-8"),
        ("a.txt", b"x" * 1001, DocumentTooLargeError, "1000 characters"),
        ("a.docx", b"PK\x03\x04broken", UnreadableDocumentError, "broken archive"),
        (
            "a.docx",
            documents.archive({"word/document.xml": "<a"}),
            UnsupportedDocumentError,
            "Unpack",
        ),
        ("a.docx", documents.docx("x", "y")[:-60], UnreadableDocumentError, "broken archive"),
        ("a.docx", documents.bomb(), DocumentTooLargeError, "unpacks to more than 1000000"),
        ("a.zip", documents.archive({"a.txt": "x"}), UnsupportedDocumentError, "is an archive"),
        ("a.doc", b"\xd0\xcf\x11\xe0" + BINARY, UnsupportedDocumentError, "password-protected"),
        ("a.rtf", b"{\\rtf1 x}", UnsupportedDocumentError, "RTF"),
        ("a.docx", documents.damaged_docx(), UnreadableDocumentError, "cannot be read as DOCX"),
    ],
)
def test_a_bad_document_is_named_with_what_to_do(
    name: str, content: bytes, kind: type[DocumentError], words: str
) -> None:
    with pytest.raises(kind, match=words) as caught:
        parse(name, content)
    assert str(caught.value).startswith(name)
