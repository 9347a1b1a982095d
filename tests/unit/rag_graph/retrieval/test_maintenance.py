"""The approximate index: made once a table is large enough, anew when it has many segments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lancedb
import numpy as np
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


def test_fragments_with_few_deleted_rows_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "LARGE_FRAGMENT", 50)
    monkeypatch.setattr(maintenance, "BITMAP_ROWS", 10)
    rows = {0: [*range(3, 100)], 1: [*range(100)], 2: [0, 2], 7: [*range(0, 200, 2)]}
    ids = np.array([(f << 32) + i for f, offsets in rows.items() for i in offsets], np.uint64)

    found = list(maintenance._sparse(np.random.default_rng(0).permutation(ids)))

    assert [ids.tolist() for ids in found] == [[*range(3, 100)]]
    assert not list(maintenance._sparse(np.array([], np.uint64)))


async def test_rows_are_written_anew_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "LARGE_FRAGMENT", 50)
    monkeypatch.setattr(maintenance, "BITMAP_ROWS", 20)
    settings = RagSettings(store_uri=str(tmp_path))
    store = await Store.open(settings)
    ingestor = Ingestor(store, Embedders([FakeEmbedder()]), settings)
    many = "\n\n".join(f"# Heading {i}\n\nword{i} stands here." for i in range(100))
    await ingestor.ingest("many.md", many.encode())
    await ingestor.ingest("more.md", (many + "\n\nMore.").encode())
    await ingestor.maintain()
    table = (await store.collection(DEFAULT_COLLECTION))._chunks
    await table.delete("content LIKE '%word7 %'")
    before = await _by_slot(table)

    await maintenance._rewrite_some(table)

    after = await _by_slot(table)
    assert {slot: row for slot, (_, row) in after.items()} == {
        slot: row for slot, (_, row) in before.items()
    }
    moved = sum(before[slot][0] != after[slot][0] for slot in before)
    assert moved == 21
    await ingestor.aclose()


async def _by_slot(table: lancedb.AsyncTable) -> dict[str, tuple[int, dict[str, Any]]]:
    """Return every row and its id."""
    rows = (await table.query().with_row_id().to_arrow()).to_pylist()
    return {row["slot"]: (row.pop("_rowid"), row) for row in rows}
