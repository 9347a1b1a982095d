"""Small office documents and broken ones, made in memory."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence

from openpyxl import Workbook
from pptx import Presentation

_TYPES = (
    '<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/'
    'content-types"><Default Extension="rels" ContentType="application/vnd.openxmlformats-'
    'package.relationships+xml"/><Override PartName="/word/document.xml" ContentType="application/'
    'vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>'
)
_RELATIONS = (
    '<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/'
    'relationships"><Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/'
    '2006/relationships/officeDocument" Target="word/document.xml"/></Relationships>'
)
_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def archive(entries: Mapping[str, str | bytes]) -> bytes:
    """Return a ZIP file of `entries`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in entries.items():
            target.writestr(name, content)
    return buffer.getvalue()


def docx(heading: str, body: str) -> bytes:
    """Return a Word document of one heading and one paragraph."""
    text = (
        f'<w:document xmlns:w="{_WORD}"><w:body>'
        f'<w:p><w:pPr><w:pStyle w:val="Heading1"/></w:pPr><w:r><w:t>{heading}</w:t></w:r></w:p>'
        f"<w:p><w:r><w:t>{body}</w:t></w:r></w:p></w:body></w:document>"
    )
    style = '<w:style w:styleId="Heading1"><w:name w:val="heading 1"/></w:style>'
    styles = f'<w:styles xmlns:w="{_WORD}">{style}</w:styles>'
    relations = _RELATIONS.replace("word/document.xml", "styles.xml").replace(
        'officeDocument"', 'styles"'
    )
    return archive(
        {
            "[Content_Types].xml": _TYPES,
            "_rels/.rels": _RELATIONS,
            "word/document.xml": text,
            "word/styles.xml": styles,
            "word/_rels/document.xml.rels": relations,
        }
    )


def damaged_docx() -> bytes:
    """Return a whole archive whose document is not XML."""
    return archive(
        {"[Content_Types].xml": _TYPES, "_rels/.rels": _RELATIONS, "word/document.xml": "<w:docu"}
    )


def bomb(size: int = 5_000_000) -> bytes:
    """Return a small Word document that unpacks to `size` bytes of nothing."""
    return archive({"[Content_Types].xml": _TYPES, "word/document.xml": bytes(size)})


def pptx(*titles: str) -> bytes:
    """Return slides with a title and one line each."""
    deck = Presentation()
    for title in titles:
        slide = deck.slides.add_slide(deck.slide_layouts[1])
        slide.shapes.title.text = title
        slide.placeholders[1].text = f"Text of {title}."
    buffer = io.BytesIO()
    deck.save(buffer)
    return buffer.getvalue()


def xlsx(sheet: str, rows: Sequence[Sequence[object]]) -> bytes:
    """Return a workbook of one sheet."""
    book = Workbook()
    page = book.active
    page.title = sheet
    for row in rows:
        page.append(list(row))
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def epub(title: str, body: str) -> bytes:
    """Return a book of one chapter."""
    container = (
        '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
        '<rootfile full-path="c.opf"/></rootfiles></container>'
    )
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<metadata><dc:title>{title}</dc:title></metadata>"
        '<manifest><item id="a" href="a.xhtml" media-type="application/xhtml+xml"/></manifest>'
        '<spine><itemref idref="a"/></spine></package>'
    )
    chapter = f"<html><body><h1>{title}</h1><p>{body}</p></body></html>"
    return archive(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": container,
            "c.opf": package,
            "a.xhtml": chapter,
        }
    )
