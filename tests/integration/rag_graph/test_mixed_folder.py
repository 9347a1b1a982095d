"""A folder of every format with broken files among them: each failure named, the rest goes in."""

from __future__ import annotations

from pathlib import Path

import pytest

from rag_graph.errors import DocumentError
from rag_graph.ingest.pipeline import Ingestor
from rag_graph.retrieval.embedder import Embedders
from rag_graph.retrieval.retriever import Retriever
from rag_graph.retrieval.store import Store
from rag_graph.settings import RagSettings
from rag_graph.state import Passage, SearchQuery
from tests.support import documents
from tests.support.rag import FakeEmbedder, pdf

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
FINDS = {
    "zebra": ("guide.md", None, "Guide > Pools"),
    "walrus": ("notes.txt", None, None),
    "giraffe": ("main.py", None, None),
    "ostrich": ("page.html", None, "Page"),
    "penguin": ("table.csv", None, None),
    "otter": ("report.pdf", 2, None),
    "badger": ("disguised.txt", 1, None),
    "hedgehog": ("letter.docx", None, "Letter"),
    "lemur": ("slides.pptx", 2, "Lemur"),
    "meerkat": ("sheet.xlsx", None, "Animals"),
    "platypus": ("book.epub", None, "Book"),
}


async def test_every_good_document_is_found_and_every_bad_one_is_named(tmp_path: Path) -> None:
    settings = RagSettings(
        store_uri=str(tmp_path),
        cache_dir=tmp_path,
        max_document_bytes=100_000,
        max_unzipped_bytes=1_000_000,
    )
    embedders = Embedders([FakeEmbedder()])
    store = await Store.open(settings)
    ingestor = Ingestor(store, embedders, settings)
    files = {**GOOD, **{name: content for name, (content, _) in BROKEN.items()}}
    failures = {}
    for name in sorted(files):
        try:
            await ingestor.ingest(name, files[name])
        except DocumentError as error:
            failures[name] = str(error)
    await ingestor.aclose()
    assert failures.keys() == BROKEN.keys()
    for name, (_, words) in BROKEN.items():
        assert failures[name].startswith(name)
        assert words in failures[name]
    retriever = Retriever(store, embedders, settings)
    for word, place in FINDS.items():
        assert _place((await retriever.search(SearchQuery(word)))[0]) == place


def _place(passage: Passage) -> tuple[str, int | None, str | None]:
    return passage.source, passage.page, passage.heading


@pytest.mark.parametrize("name", sorted(GOOD))
def test_the_folder_covers_what_it_says(name: str) -> None:
    assert name in {place[0] for place in FINDS.values()}
