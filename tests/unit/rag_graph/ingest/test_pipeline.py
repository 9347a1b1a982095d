"""Ingest and search through a real LanceDB directory, with an embedder that counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rag_graph.errors import (
    CollectionNotFoundError,
    DocumentTooLargeError,
    EmbedderError,
    InvalidQueryError,
    UnreadableDocumentError,
)
from rag_graph.ingest.pipeline import Ingestor, Progress, document_key
from rag_graph.retrieval.embedder import Embedders
from rag_graph.retrieval.retriever import Retriever
from rag_graph.retrieval.store import Store
from rag_graph.settings import RagSettings
from rag_graph.state import SearchQuery
from tests.support.rag import FakeEmbedder, pdf

PARTS = (
    "# Pools\n\nGPU pools carry a taint.\n\n# Disks\n\nDisks are large.\n\n# Nets\n\nNets are fast."
)


class Room:
    """A store in a directory, with its writer and its reader."""

    def __init__(self, folder: Path, **settings: object) -> None:
        values = {"store_uri": str(folder), "cache_dir": folder, **settings}
        self.settings = RagSettings.model_validate(values)
        self.embedder = FakeEmbedder()

        self._ingestors: list[Ingestor] = []

    async def ingestor(self) -> Ingestor:
        store = await Store.open(self.settings)
        self._ingestors.append(Ingestor(store, Embedders([self.embedder]), self.settings))
        return self._ingestors[-1]

    async def aclose(self) -> None:
        for ingestor in self._ingestors:
            await ingestor.aclose()

    async def texts(self, query: str, **fields: object) -> list[str]:
        retriever = Retriever(
            await Store.open(self.settings), Embedders([FakeEmbedder()]), self.settings
        )
        found = await retriever.search(SearchQuery(query, **fields))  # type: ignore[arg-type]
        return [passage.text for passage in found]


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    room = Room(tmp_path)
    yield room
    await room.aclose()


async def test_what_went_in_comes_out(room: Room) -> None:
    ingestor = await room.ingestor()
    report = await ingestor.ingest("docs/infra.md", PARTS.encode())
    assert (report.status, report.chunks, report.title) == ("created", 3, "Pools")
    retriever = Retriever(
        await Store.open(room.settings), Embedders([room.embedder]), room.settings
    )
    best = (await retriever.search(SearchQuery("which taint do GPU pools carry", top_k=1)))[0]
    assert best.text == "GPU pools carry a taint."
    assert (best.source, best.heading) == ("docs/infra.md", "Pools")
    assert best.document_id == report.document_id == document_key("docs/infra.md")


async def test_an_unchanged_document_costs_no_embedding(room: Room) -> None:
    ingestor = await room.ingestor()
    await ingestor.ingest("a.md", PARTS.encode())
    room.embedder.embedded.clear()
    report = await ingestor.ingest("a.md", PARTS.encode())
    assert (report.status, report.chunks) == ("unchanged", 3)
    assert room.embedder.embedded == []


async def test_a_changed_document_embeds_its_changed_chunks_only(room: Room) -> None:
    ingestor = await room.ingestor()
    await ingestor.ingest("a.md", PARTS.encode())
    room.embedder.embedded.clear()
    report = await ingestor.ingest("a.md", PARTS.replace("large", "huge").encode())
    assert report.status == "replaced"
    assert len(room.embedder.embedded) == 1
    assert sorted(await room.texts("disks pools nets")) == [
        "Disks are huge.",
        "GPU pools carry a taint.",
        "Nets are fast.",
    ]


async def test_a_document_that_shrinks_leaves_nothing_behind(room: Room) -> None:
    ingestor = await room.ingestor()
    await ingestor.ingest("a.md", PARTS.encode())
    report = await ingestor.ingest("a.md", b"# Pools\n\nOnly this.")
    assert report.chunks == 1
    assert await room.texts("disks pools nets taint only") == ["Only this."]
    report = await ingestor.ingest("a.md", PARTS.encode())
    assert len(await room.texts("disks pools nets taint only")) == 3


async def test_filters_narrow_both_searches(room: Room) -> None:
    ingestor = await room.ingestor()
    await ingestor.ingest("a'b.md", b"# A\n\nGPU taint one.")
    await ingestor.ingest("b.md", b"# B\n\nGPU taint two.")
    assert await room.texts("taint", filters={"source": "a'b.md"}) == ["GPU taint one."]
    with pytest.raises(InvalidQueryError, match="'colour' cannot be filtered by"):
        await room.texts("taint", filters={"colour": "red"})


async def test_collections_are_apart(room: Room) -> None:
    ingestor = await room.ingestor()
    await ingestor.ingest("a.md", b"Taint in one.", "one")
    await ingestor.ingest("a.md", b"Taint in two.", "two")
    assert await room.texts("taint", collection="one") == ["Taint in one."]
    with pytest.raises(CollectionNotFoundError, match="no collection 'three'"):
        await room.texts("taint", collection="three")
    with pytest.raises(InvalidQueryError, match="cannot name a collection"):
        await room.texts("taint", collection="../etc")


async def test_the_default_collection_is_empty_before_the_first_document(room: Room) -> None:
    assert await room.texts("anything") == []
    with pytest.raises(InvalidQueryError, match="query is empty"):
        await room.texts("  ")


async def test_a_broken_document_changes_nothing(room: Room) -> None:
    ingestor = await room.ingestor()
    await ingestor.ingest("a.pdf", pdf("GPU taint."))
    with pytest.raises(UnreadableDocumentError):
        await ingestor.ingest("a.pdf", pdf("Other text.")[:150])
    assert await room.texts("taint") == ["GPU taint."]


async def test_a_document_over_the_limit_is_refused(tmp_path: Path) -> None:
    ingestor = await Room(tmp_path, max_document_bytes=10).ingestor()
    with pytest.raises(DocumentTooLargeError, match="11 bytes; the limit is 10"):
        await ingestor.ingest("a.md", b"x" * 11)


async def test_vectors_of_two_embedders_never_mix(room: Room) -> None:
    await (await room.ingestor()).ingest("a.md", b"Some text.")
    room.embedder.name = "another"
    ingestor = await room.ingestor()
    with pytest.raises(EmbedderError, match="holds vectors of fake"):
        await ingestor.ingest("b.md", b"Some text.")


async def test_progress_is_told(room: Room) -> None:
    seen: list[Progress] = []
    await (await room.ingestor()).ingest("a.md", PARTS.encode(), on_progress=seen.append)
    assert [p.stage for p in seen if p.done == p.total] == ["embedding", "indexing"]
    assert seen[0] == Progress("parsing", 0, 1)


async def test_documents_ingested_at_once_all_arrive(room: Room) -> None:
    ingestor = await room.ingestor()
    names = [f"{n}.md" for n in range(8)]
    await asyncio.gather(*(ingestor.ingest(n, f"Text of {n}".encode()) for n in names))
    assert len(await room.texts("text", top_k=100)) == 8
