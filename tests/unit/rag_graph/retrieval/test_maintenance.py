"""The approximate index: made once a table is large enough, anew when it has many segments."""

from __future__ import annotations

from pathlib import Path

import pytest

from rag_graph.ingest.pipeline import Ingestor
from rag_graph.retrieval import maintenance
from rag_graph.retrieval.collection import Collection
from rag_graph.retrieval.embedder import Embedders
from rag_graph.retrieval.retriever import Retriever
from rag_graph.retrieval.store import Store
from rag_graph.settings import RagSettings
from rag_graph.state import DEFAULT_COLLECTION, SearchQuery
from tests.support.rag import FakeEmbedder


async def segments(collection: Collection) -> int:
    """Return how many the vector index has; 0 without an index."""
    indices = await collection._chunks.list_indices()
    return sum(i.num_segments or 0 for i in indices if i.name == maintenance.VECTOR_INDEX)


async def test_the_index_stays_small_and_finds_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "MAX_SEGMENTS", 3)
    settings = RagSettings(store_uri=str(tmp_path), index_rows=256, maintain_every=10**6)
    embedders = Embedders([FakeEmbedder()])
    store = await Store.open(settings)
    ingestor = Ingestor(store, embedders, settings)
    retriever = Retriever(store, embedders, settings)
    await ingestor.ingest("small.txt", b"alpha")
    await ingestor.maintain()
    collection = await store.collection(DEFAULT_COLLECTION)
    assert await segments(collection) == 0
    many = "\n\n".join(f"# Heading {i}\n\nword{i} stands here." for i in range(300))
    await ingestor.ingest("many.md", many.encode())
    seen = []
    for i in range(6):
        await ingestor.ingest(f"late{i}.txt", f"latecomer{i} arrives".encode())
        await ingestor.maintain()
        seen.append(await segments(collection))
        (found,) = await retriever.search(SearchQuery(f"latecomer{i} arrives", top_k=1))
        assert found.source == f"late{i}.txt"
    await ingestor.aclose()
    assert seen == [1, 2, 3, 1, 2, 3]
    (found,) = await retriever.search(SearchQuery("word7", top_k=1))
    assert found.text == "word7 stands here."
