"""Small collections held in memory find what LanceDB finds, and find what is new at once."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from rag_graph.ingest.pipeline import Ingestor
from rag_graph.retrieval.embedder import Embedders
from rag_graph.retrieval.retriever import Retriever
from rag_graph.retrieval.store import Store
from rag_graph.settings import RagSettings
from rag_graph.state import Passage, SearchQuery
from tests.support.rag import FakeEmbedder

WORDS = ["pool", "taint", "node", "disk", "net", "ray", "serve", "chart", "helm", "blob", "rank"]
DICE = random.Random(1)
TEXTS = {
    f"{i}.md": f"# Note {i % 4}\n\n{' '.join(DICE.choices(WORDS, k=5 + i))} n{i}."
    for i in range(24)
}
QUERIES = ["which taint has a node pool", "n7", "helm chart", "rank token ray serve", "nothing"]


async def fill(settings: RagSettings, texts: dict[str, str], collection: str = "default") -> None:
    ingestor = Ingestor(await Store.open(settings), Embedders([FakeEmbedder()]), settings)
    await asyncio.gather(
        *(ingestor.ingest(name, text.encode(), collection) for name, text in texts.items())
    )
    await ingestor.aclose()


async def reader(settings: RagSettings) -> tuple[Store, Retriever]:
    store = await Store.open(settings)
    return store, Retriever(store, Embedders([FakeEmbedder()]), settings)


async def is_held(store: Store, name: str = "default") -> bool:
    return await (await store.collection(name)).resident() is not None


@pytest.mark.parametrize("filters", [{}, {"title": "Note 1"}, {"title": "None", "source": "x"}])
async def test_both_ways_find_the_same(tmp_path: Path, filters: dict[str, str]) -> None:
    settings = RagSettings(store_uri=str(tmp_path), candidates=10, top_k=6)
    await fill(settings, TEXTS)
    held, in_memory = await reader(settings)
    asked, in_place = await reader(settings.model_copy(update={"resident_bytes": 0}))
    for text in QUERIES:
        query = SearchQuery(text, filters=filters)
        for _ in range(3):
            found = await in_memory.search(query)
        assert [_seen(p) for p in found] == [_seen(p) for p in await in_place.search(query)]
    assert await is_held(held)
    assert not await is_held(asked)


def _seen(found: Passage) -> tuple[object, ...]:
    similarity = None if found.similarity is None else round(found.similarity, 4)
    return found.source, found.text, found.heading, round(found.score, 6), similarity


async def test_what_another_process_writes_is_found_at_once(tmp_path: Path) -> None:
    settings = RagSettings(store_uri=str(tmp_path), top_k=1)
    await fill(settings, TEXTS)
    store, retriever = await reader(settings)
    query = SearchQuery("zebra crossing")
    for i in range(3):
        for _ in range(4):
            await retriever.search(query)
        assert await is_held(store)
        await fill(settings, {"new.md": f"zebra crossing {i}"})
        assert (await retriever.search(query))[0].text == f"zebra crossing {i}"


async def test_memory_is_for_those_searched_last(tmp_path: Path) -> None:
    settings = RagSettings(store_uri=str(tmp_path))
    for name in ("one", "two"):
        await fill(settings, TEXTS, name)
    store, retriever = await reader(settings)
    one = await _held(store, retriever, "one")
    tight = settings.model_copy(update={"resident_bytes": one * 3 // 2})
    store, retriever = await reader(tight)
    await _held(store, retriever, "one")
    await _held(store, retriever, "two")
    assert [await is_held(store, name) for name in ("one", "two")] == [False, True]


async def test_what_does_not_fit_is_searched_in_place(tmp_path: Path) -> None:
    settings = RagSettings(store_uri=str(tmp_path), resident_bytes=24 * 64 * 4 * 2 - 1)
    await fill(settings, TEXTS)
    store, retriever = await reader(settings)
    for _ in range(4):
        assert len(await retriever.search(SearchQuery("helm chart"))) == settings.top_k
    assert not await is_held(store)


async def _held(store: Store, retriever: Retriever, name: str) -> int:
    for _ in range(3):
        await retriever.search(SearchQuery("helm chart", name))
    resident = await (await store.collection(name)).resident()
    assert resident is not None
    return resident.nbytes
