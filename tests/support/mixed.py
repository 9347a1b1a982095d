"""A folder of every format, with broken files among them."""

from __future__ import annotations

from tests.support import documents
from tests.support.rag import encrypted_pdf, pdf

GOOD = {
    "guide.md": b"# Guide\n\n## Pools\n\nMarkdown zebra text.",
    "notes.txt": b"Plain walrus text.",
    "main.py": b"def giraffe():\n    return 1\n",
    "page.html": b"<h1>Page</h1><p>Web ostrich text.</p>",
    "table.csv": b"animal,legs\npenguin,2\n",
    "report.pdf": pdf("First page.", "Second page of the otter."),
    "disguised.txt": pdf("A disguised badger."),
    "letter.docx": documents.docx("Letter", "Word hedgehog text."),
    "slides.pptx": documents.pptx("Intro", "Lemur"),
    "sheet.xlsx": documents.xlsx("Animals", [["name"], ["meerkat"]]),
    "book.epub": documents.epub("Book", "Chapter about a platypus."),
}
BROKEN = {
    "truncated.pdf": (pdf("x" * 200)[:250], "cannot be read as PDF"),
    "encrypted.pdf": (encrypted_pdf(), "is protected by a password"),
    "garbage.pdf": (b"not a pdf", "is not a PDF"),
    "empty.md": (b"", "is empty"),
    "blank.pdf": (pdf(""), "holds no text"),
    "random.md": (bytes(range(256)), "is not text"),
    "latin1.txt": ("café".encode("latin-1"), "not UTF-8"),
    "bomb.docx": (documents.bomb(), "unpacks to more than"),
    "damaged.docx": (documents.damaged_docx(), "cannot be read as DOCX"),
    "cut.xlsx": (documents.xlsx("A", [["b"]])[:-40], "broken archive"),
    "old.doc": (b"\xd0\xcf\x11\xe0" + bytes(600), "old or a password-protected"),
    "huge.txt": (b"x" * 100_001, "limit is 100000"),
}
