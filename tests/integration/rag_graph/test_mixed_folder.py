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
from tests.support.mixed import BROKEN, GOOD
from tests.support.rag import FakeEmbedder

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
