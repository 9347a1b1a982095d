"""Documents to text, headings and pages; bad ones to clear errors."""

from __future__ import annotations

import pytest

from rag_graph.errors import (
    DocumentError,
    EmptyDocumentError,
    UnreadableDocumentError,
    UnsupportedDocumentError,
)
from rag_graph.ingest.parse import Section, parse
from tests.support.rag import pdf

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


@pytest.mark.parametrize(
    ("name", "content", "kind", "words"),
    [
        ("a.exe", b"MZ", UnsupportedDocumentError, "files ending in .exe"),
        ("noending", b"text", UnsupportedDocumentError, "nothing"),
        ("a.md", b" \n", EmptyDocumentError, "is empty"),
        ("a.pdf", pdf("", ""), EmptyDocumentError, "holds no text"),
        ("a.pdf", pdf("text")[:200], UnreadableDocumentError, "cannot be read as PDF"),
        ("a.pdf", b"garbage", UnreadableDocumentError, "cannot be read as PDF"),
        ("a.txt", b"caf\xe9", UnreadableDocumentError, "not UTF-8"),
        ("a.md", b"ab\x00cd", UnreadableDocumentError, "zero bytes"),
    ],
)
def test_a_bad_document_is_named_with_what_to_do(
    name: str, content: bytes, kind: type[DocumentError], words: str
) -> None:
    with pytest.raises(kind, match=words) as caught:
        parse(name, content)
    assert str(caught.value).startswith(name)
