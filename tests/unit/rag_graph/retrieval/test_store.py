"""The store in states that only a crash or a race leaves behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from rag_graph.errors import CollectionNotFoundError
from rag_graph.retrieval.store import Store
from rag_graph.settings import RagSettings


async def test_a_table_without_its_first_commit_is_not_there_yet(tmp_path: Path) -> None:
    (tmp_path / "collections.lance" / "data").mkdir(parents=True)
    store = await Store.open(RagSettings(store_uri=str(tmp_path)))
    assert await store.collections() == []
    with pytest.raises(CollectionNotFoundError):
        await store.collection("default")
