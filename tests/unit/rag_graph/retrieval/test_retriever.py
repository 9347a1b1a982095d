"""A search sees one state of its collection, also while it is written."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from rag_graph.ingest.pipeline import Ingestor
from rag_graph.retrieval.collection import Collection
from rag_graph.retrieval.embedder import Embedders
from rag_graph.retrieval.resident import Ranking
from rag_graph.retrieval.retriever import Retriever
from rag_graph.retrieval.store import Store
from rag_graph.retrieval.vectors import Vectors
from rag_graph.settings import RagSettings
from rag_graph.state import SearchQuery
from tests.support.rag import FakeEmbedder

NAMES = ["n1.txt", "n27.txt"]
"""Asked for the second, one that stands in both rankings would go before it."""


@pytest.mark.parametrize("resident_bytes", [2**20, 0])
async def test_a_document_replaced_between_both_searches_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resident_bytes: int
) -> None:
    settings = RagSettings(
        store_uri=str(tmp_path), cache_dir=tmp_path, resident_bytes=resident_bytes
    )
    embedders = Embedders([FakeEmbedder()])
    ingestor = Ingestor(await Store.open(settings), embedders, settings)
    for name in NAMES:
        await ingestor.ingest(name, f"first text of {name}".encode())
    store = await Store.open(settings)
    retriever = Retriever(store, embedders, settings)
    query = SearchQuery("text of n27.txt", top_k=1)
    for _ in range(3):
        assert (await retriever.search(query))[0].source == "n27.txt"
    assert (await (await store.collection("default")).resident() is None) == (not resident_bytes)

    dense_done, written = asyncio.Event(), asyncio.Event()
    dense, bm25 = Collection.dense, Collection.bm25

    async def first_dense(
        self: Collection, vector: Vectors, limit: int, where: str | None = None
    ) -> Ranking:
        found = await dense(self, vector, limit, where)
        dense_done.set()
        return found

    async def then_bm25(
        self: Collection, text: str, limit: int, where: str | None = None
    ) -> Ranking:
        if not written.is_set():
            if not resident_bytes:
                await dense_done.wait()
            await ingestor.ingest("n27.txt", b"second text of n27.txt")
            written.set()
        return await bm25(self, text, limit, where)

    monkeypatch.setattr(Collection, "dense", first_dense)
    monkeypatch.setattr(Collection, "bm25", then_bm25)
    found = await retriever.search(query)

    assert written.is_set()
    assert [passage.text for passage in found] == ["second text of n27.txt"]
    await ingestor.aclose()
