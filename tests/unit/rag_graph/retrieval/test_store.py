"""The store in states that only a crash or a race leaves behind."""

from __future__ import annotations

from pathlib import Path

import lancedb
import pytest

from rag_graph.errors import CollectionNotFoundError
from rag_graph.retrieval import schema
from rag_graph.retrieval.collection import CollectionInfo
from rag_graph.retrieval.store import Store
from rag_graph.settings import RagSettings


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
