"""The store in states that only a crash or a race leaves behind."""

from __future__ import annotations

from pathlib import Path

import lancedb
import pytest

from rag_graph.errors import CollectionNotFoundError
from rag_graph.ingest.pipeline import Ingestor
from rag_graph.retrieval import schema
from rag_graph.retrieval.collection import CollectionInfo
from rag_graph.retrieval.embedder import Embedders
from rag_graph.retrieval.store import Store
from rag_graph.settings import RagSettings
from tests.support.rag import FakeEmbedder


async def test_a_table_without_its_first_commit_is_not_there_yet(tmp_path: Path) -> None:
    (tmp_path / "collections.lance" / "data").mkdir(parents=True)
    store = await Store.open(RagSettings(store_uri=str(tmp_path)))
    assert await store.collections() == []
    with pytest.raises(CollectionNotFoundError):
        await store.collection("default")


async def test_a_list_of_collections_of_an_earlier_release_is_taken_on(tmp_path: Path) -> None:
    old = schema.COLLECTIONS.remove(schema.COLLECTIONS.get_field_index("previous"))
    await (await lancedb.connect_async(tmp_path)).create_table("collections", schema=old)
    store = await Store.open(RagSettings(store_uri=str(tmp_path)))
    info = CollectionInfo("notes", 2, "model", 8, 200, previous=1)
    await store.publish(info)
    await store.publish(info)
    assert await store.collections() == [info]


async def test_a_writer_keeps_little_of_what_it_wrote(tmp_path: Path) -> None:
    bound = 2**17
    settings = RagSettings(store_uri=str(tmp_path), ingest_cache_bytes=bound)
    used = []
    for number, writes in enumerate((False, True)):
        store = await Store.open(settings, writes=writes)
        ingestor = Ingestor(store, Embedders([FakeEmbedder()]), settings)
        for i in range(12):
            await ingestor.ingest(f"{i}.md", b"# Disks\n\nLarge.", f"c{number}")
        await ingestor.aclose()
        used.append(store.caches.size_bytes)
    assert used[1] <= 2 * bound < used[0]
