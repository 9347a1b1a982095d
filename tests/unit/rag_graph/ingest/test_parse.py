"""Documents to text, headings and pages; bad ones to clear errors."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pptx import Presentation

from rag_graph.errors import (
    DocumentError,
    DocumentTooLargeError,
    EmptyDocumentError,
    UnreadableDocumentError,
    UnsupportedDocumentError,
)
from rag_graph.ingest.parse import Limits
from rag_graph.ingest.parse import parse as parse_within
from rag_graph.ingest.sections import Parsed, Section, markdown_sections
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


BREAKS = st.sampled_from([*"\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029 ", "\r\n", "\n\n"])
PARTS = st.tuples(st.sampled_from(["# {}\n", "## {}\n", "{}\n===\n"]), st.lists(BREAKS, min_size=1))


@given(st.lists(PARTS, min_size=1, max_size=6))
def test_no_word_is_lost_whatever_breaks_the_lines(parts: list[tuple[str, list[str]]]) -> None:
    numbers = iter(range(1000))
    text = ""
    for heading, breaks in parts:
        text += "\n\n" + heading.format(f"w{next(numbers)} w{next(numbers)}")
        text += "".join(f"w{next(numbers)}{ending}" for ending in breaks)
    sections = list(markdown_sections(text))
    found = {word for s in sections for word in re.findall(r"w\d+", f"{s.headings} {s.text}")}
    assert found == set(re.findall(r"w\d+", text))


def test_a_heading_with_nothing_below_it_is_its_own_text() -> None:
    parsed = parse("a.md", b"# Limits\n\n## Five pods\n\n## Names\n\nShort.\n\n#\n\n# End\n")
    assert [(s.headings, s.text) for s in parsed.sections] == [
        (("Limits", "Five pods"), "Five pods"),
        (("Limits", "Names"), "Short."),
        (("End",), "End"),
    ]


def test_a_heading_of_two_lines_keeps_its_words_apart() -> None:
    (section,) = markdown_sections("Node\npools\n===\nBody.")
    assert section.headings == ("Node pools",)


def test_slides_with_soft_line_breaks_lose_no_line() -> None:
    deck = Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[1])
    slide.shapes.title.text = "Node\vpools"
    slide.placeholders[1].text = "First.\vSecond.\vThird.\nFourth."
    slide.notes_slide.notes_text_frame.text = "Say\vthis."
    buffer = io.BytesIO()
    deck.save(buffer)
    sections = parse("a.pptx", buffer.getvalue()).sections
    assert [(s.headings, s.text.split()) for s in sections] == [
        (("Node pools",), ["First.", "Second.", "Third.", "Fourth."]),
        (("Node pools", "Notes:"), ["Say", "this."]),
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


def test_a_text_that_speaks_of_the_header_of_pdf_is_text() -> None:
    source = b'MAGIC = b"%PDF-"\n'
    assert parse("kinds.py", source).sections == (Section('MAGIC = b"%PDF-"'),)
    assert parse("a.md", b"# Files\n\nBegin with %PDF-1.7.").sections[0].headings == ("Files",)
    assert "%PDF-" in parse("a.html", b"<html><p>%PDF-1.4</p></html>").sections[0].text
    assert parse("grep.txt", "a.pdf:%PDF-1.4".encode("utf-16")).title == "grep"
    with pytest.raises(UnsupportedDocumentError, match="is an archive"):
        parse("a.zip", documents.archive({"%PDF-1.4.txt": "x"}))


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("a.txt", b"", b""),
        ("a.pdf", b"Content-Type: application/pdf\r\n\r\n", b""),
        ("a.txt", b"\x00\x93", b""),
        ("a.txt", b"\n", BINARY),
    ],
)
def test_a_pdf_is_one_whatever_its_name_and_its_first_bytes(
    name: str, before: bytes, after: bytes
) -> None:
    assert parse(name, before + pdf("Page text.") + after).sections[0].page == 1


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
