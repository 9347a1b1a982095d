"""Re-embedding while searches and writers go on; back again; killed and resumed; deletion."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rag_graph.errors import CollectionNotFoundError, EmbedderError
from rag_graph.ingest.migrate import migrate
from rag_graph.ingest.pipeline import Ingestor
from rag_graph.retrieval.embedder import Embedders
from rag_graph.retrieval.retriever import Retriever
from rag_graph.retrieval.store import Store
from rag_graph.settings import RagSettings
from rag_graph.state import SearchQuery
from tests.support.rag import FakeEmbedder

COUNT = 30
NAMES = [f"n{i}.txt" for i in range(COUNT)]


class House:
    """A store of small documents, two embedders, a reader and a writer of their own handles."""

    def __init__(self, folder: Path) -> None:
        self.settings = RagSettings(store_uri=str(folder), cache_dir=folder)
        self.old, self.new = FakeEmbedder(), FakeEmbedder()
        self.new.name = "new"
        self.embedders = Embedders([self.old, self.new])

    async def open(self) -> None:
        self.store = await Store.open(self.settings)
        self.ingestor = Ingestor(self.store, self.embedders, self.settings)
        reader = await Store.open(self.settings)
        self.retriever = Retriever(reader, self.embedders, self.settings)
        await self.write("first")

    async def write(self, word: str) -> None:
        for name in NAMES:
            await self.ingestor.ingest(name, f"{word} text of {name}".encode())

    async def find(self, name: str) -> str:
        """Return the best passage for a document: its own, or recall has dropped."""
        (best,) = await self.retriever.search(SearchQuery(f"text of {name}", top_k=1))
        assert best.source == name
        return best.text

    async def embedder(self) -> str:
        return (await self.store.collection("default")).info.embedder


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path)
    await house.open()
    yield house
    await house.ingestor.aclose()


async def load(house: House, stop: asyncio.Event) -> int:
    searches = 0
    while not stop.is_set():
        await house.find(NAMES[searches % COUNT])
        searches += 1
    return searches


async def test_re_embedding_under_load_and_back(house: House) -> None:
    stop = asyncio.Event()
    searching = asyncio.create_task(load(house, stop))
    before = await migrate(house.store, "default", house.new)
    assert (before.embedder, await house.embedder()) == ("fake", "new")
    await house.write("second")
    embedded = len(house.old.embedded)
    await migrate(house.store, "default", house.old)
    assert await house.embedder() == "fake"
    stop.set()
    assert await searching > 20
    assert [await house.find(name) for name in NAMES] == [f"second text of {n}" for n in NAMES]
    assert len(house.old.embedded) > embedded


async def test_writers_during_a_migration_lose_nothing(house: House) -> None:
    await asyncio.gather(migrate(house.store, "default", house.new), house.write("second"))
    assert await house.embedder() == "new"
    assert [await house.find(name) for name in NAMES] == [f"second text of {n}" for n in NAMES]
    report = await house.ingestor.ingest(NAMES[0], f"second text of {NAMES[0]}".encode())
    assert report.status == "unchanged"


async def test_a_broken_off_migration_changes_nothing_and_is_resumed(house: House) -> None:
    def stop(done: int, _: int) -> None:
        if done == COUNT // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await migrate(house.store, "default", house.new, stop)
    assert await house.embedder() == "fake"
    await house.find(NAMES[3])
    seen: list[int] = []
    await migrate(house.store, "default", house.new, lambda _, total: seen.append(total))
    assert seen[0] == COUNT - COUNT // 2
    assert await house.embedder() == "new"


async def test_a_searcher_without_the_new_model_says_so(house: House) -> None:
    await migrate(house.store, "default", house.new)
    alone = Retriever(house.store, Embedders([house.old]), house.settings)
    with pytest.raises(EmbedderError, match="RAG_EMBEDDER_DIRS"):
        await alone.search(SearchQuery("text"))


async def test_a_deleted_collection_is_gone_and_can_be_made_anew(house: House) -> None:
    await house.ingestor.ingest("a.txt", b"other text", "other")
    assert [info.name for info in await house.store.collections()] == ["default", "other"]
    await house.retriever.search(SearchQuery("text", "other"))
    await house.store.delete("other")
    with pytest.raises(CollectionNotFoundError):
        await house.retriever.search(SearchQuery("text", "other"))
    with pytest.raises(CollectionNotFoundError):
        await house.store.delete("other")
    assert [info.name for info in await house.store.collections()] == ["default"]
    await house.ingestor.ingest("a.txt", b"new text", "other")
    (found,) = await house.retriever.search(SearchQuery("text", "other"))
    assert found.text == "new text"
