"""The store in states that only a crash or a race leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import lancedb
import pytest

from rag_graph.errors import CollectionNotFoundError
from rag_graph.ingest.pipeline import Ingestor
from rag_graph.retrieval import schema
from rag_graph.retrieval.collection import Collection, CollectionInfo
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


class Other(FakeEmbedder):
    name = "other"
    dimension = 8


async def filled(settings: RagSettings) -> Store:
    store = await Store.open(settings)
    ingestor = Ingestor(store, Embedders([FakeEmbedder()]), settings)
    await ingestor.ingest("old.md", b"Old text.")
    await ingestor.aclose()
    return store


def tables(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("default.*.lance")}


@pytest.mark.parametrize("embedder", [FakeEmbedder(), Other()])
async def test_a_deletion_that_was_killed_leaves_nothing_to_a_new_collection(
    tmp_path: Path, embedder: FakeEmbedder
) -> None:
    settings = RagSettings(store_uri=str(tmp_path))
    store = await filled(settings)
    info = (await store.collection("default")).info
    shadow = replace(info, version=2, embedder="third", dimension=4)  # of a killed re-embedding
    await store.create(shadow)
    (tmp_path / "default.chunks.3.lance" / "data").mkdir(parents=True)  # and of one more
    await store.publish(replace(info, deleted=True))
    made = await (await Store.open(settings)).collection_or_new("default", embedder, 100)
    assert made.info.version > 3
    assert await made.documents("", 10) == []
    assert await made.counts() == (0, 0)
    version = made.info.version
    assert tables(tmp_path) == {f"default.documents.{version}", f"default.chunks.{version}"}


async def test_a_creation_that_was_killed_is_no_hindrance(tmp_path: Path) -> None:
    store = await Store.open(RagSettings(store_uri=str(tmp_path)))
    await store.create(CollectionInfo("default", 1, "third", 4, 100))
    made = await store.collection_or_new("default", FakeEmbedder(), 100)
    assert await store.collections() == [made.info]
    assert made.info.version == 2
    await store.settle(made.info)
    assert tables(tmp_path) == {"default.documents.2", "default.chunks.2"}


class Deleting(Store):
    """Gives a creation of the same name the time it needs between a deletion's two steps."""

    creating: asyncio.Task[Collection]

    async def publish(self, info: CollectionInfo) -> None:
        await super().publish(info)
        if info.deleted:
            self.creating = asyncio.create_task(
                self.collection_or_new(info.name, FakeEmbedder(), 100)
            )
            await asyncio.wait({self.creating}, timeout=1)


async def test_a_collection_made_while_one_of_its_name_is_deleted_keeps_its_tables(
    tmp_path: Path,
) -> None:
    settings = RagSettings(store_uri=str(tmp_path))
    await filled(settings)
    store = await Deleting.open(settings)
    assert isinstance(store, Deleting)
    await store.delete("default")
    assert await (await store.creating).counts() == (0, 0)
    assert len(tables(tmp_path)) == 2


class Looking(Store):
    """Tells when a collection was looked up, before it is locked."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.looked = asyncio.Event()

    async def version(self, info: CollectionInfo) -> Collection:
        collection = await super().version(info)
        self.looked.set()
        return collection


@asynccontextmanager
async def a_waiting_deletion(
    folder: Path,
) -> AsyncIterator[tuple[Store, CollectionInfo, asyncio.Task[None]]]:
    """Yield a store, its collection and a deletion of that, which waits until the block ends."""
    settings = RagSettings(store_uri=str(folder))
    store, other = await filled(settings), await Looking.open(settings)
    assert isinstance(other, Looking)
    old = await store.collection("default")
    async with old.frozen():
        deletion = asyncio.create_task(other.delete("default"))
        await other.looked.wait()
        yield store, old.info, deletion
        assert not deletion.done()


async def test_a_second_deletion_spares_a_collection_made_after_the_first(tmp_path: Path) -> None:
    async with a_waiting_deletion(tmp_path) as (store, old, second):
        await store.publish(replace(old, deleted=True))
        await store.collection_or_new("default", FakeEmbedder(), 100)
    with pytest.raises(CollectionNotFoundError):
        await second
    assert await (await store.collection("default")).counts() == (0, 0)


async def test_a_deletion_takes_what_was_embedded_anew_while_it_waited(tmp_path: Path) -> None:
    async with a_waiting_deletion(tmp_path) as (store, old, deletion):
        anew = replace(old, version=2, previous=1, embedder="other")
        await store.create(anew)
        await store.publish(anew)
    await deletion
    with pytest.raises(CollectionNotFoundError):
        await store.collection("default")
    assert tables(tmp_path) == set()


async def test_a_shadow_that_was_killed_is_no_hindrance(tmp_path: Path) -> None:
    store = await filled(RagSettings(store_uri=str(tmp_path)))
    info = (await store.collection("default")).info
    await store.create(replace(info, version=2, embedder=Other.name, dimension=4))
    (tmp_path / "default.chunks.3.lance" / "data").mkdir(parents=True)
    other = Other()
    assert await store.next_version(info, other) == 4
    await store.create(replace(info, version=4, embedder=other.name, dimension=other.dimension))
    assert await store.next_version(info, other) == 4


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
