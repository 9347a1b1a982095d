"""What befalls a store: deletion amid searches, a disk that fills up, many small files."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rag_graph.errors import CollectionNotFoundError, EmbedderError, StoreError
from rag_graph.ingest.jobs import Jobs
from rag_graph.retrieval.embedder import Embedders
from rag_graph.retrieval.retriever import Retriever
from rag_graph.retrieval.store import Store
from rag_graph.settings import RagSettings
from rag_graph.state import SearchQuery
from tests.support.processes import ROOT
from tests.support.rag import FakeEmbedder

WAIT_S = 120.0


async def opened(folder: Path, embedder: FakeEmbedder | None = None) -> Jobs:
    settings = RagSettings(store_uri=str(folder), cache_dir=folder)
    embedders = Embedders([embedder or FakeEmbedder()])
    jobs = Jobs(await Store.open(settings), embedders, settings)
    await jobs.start()
    return jobs


async def put(jobs: Jobs, name: str, text: str, collection: str = "default") -> None:
    job = await jobs.submit("t", name, text.encode(), collection)
    job = await jobs.ended("t", job.id, WAIT_S)
    assert job.status == "done", job.error


async def retriever(folder: Path) -> Retriever:
    settings = RagSettings(store_uri=str(folder), cache_dir=folder)
    return Retriever(await Store.open(settings), Embedders([FakeEmbedder()]), settings)


async def test_a_collection_deleted_amid_searches_is_there_or_not_found(tmp_path: Path) -> None:
    jobs, searcher = await opened(tmp_path), await retriever(tmp_path)
    found = gone = 0
    stop = asyncio.Event()

    async def search() -> None:
        nonlocal found, gone
        while not stop.is_set():
            try:
                passages = await searcher.search(SearchQuery("text", "notes"))
                assert len(passages) <= 1, "anew it is empty, then it has its document"
                found += len(passages)
            except CollectionNotFoundError:
                gone += 1

    await put(jobs, "a.md", "some text 0", "notes")
    searching = [asyncio.create_task(search()) for _ in range(3)]
    for i in range(1, 9):
        await jobs.delete_collection("notes")
        await put(jobs, "a.md", f"some text {i}", "notes")
    stop.set()
    await asyncio.gather(*searching)
    await jobs.aclose()
    assert found > 8
    assert gone > 0


async def test_a_hundred_small_documents_share_commits(tmp_path: Path) -> None:
    jobs = await opened(tmp_path)
    await asyncio.gather(*(put(jobs, f"{i}.txt", f"small text {i}") for i in range(100)))
    store = await Store.open(RagSettings(store_uri=str(tmp_path)))
    collection = await store.collection("default")
    assert await collection.counts() == (100, 100)
    await jobs.aclose()


async def test_vectors_of_another_length_are_refused_and_nothing_changes(tmp_path: Path) -> None:
    jobs = await opened(tmp_path)
    await put(jobs, "a.md", "some text")
    await jobs.aclose()
    longer = FakeEmbedder()
    longer.dimension = 65
    jobs = await opened(tmp_path, longer)
    job = await jobs.submit("t", "b.md", b"more text", "default")
    job = await jobs.ended("t", job.id, WAIT_S)
    assert job.status == "failed"
    assert "fake (64 dimensions), which is not at hand" in (job.error or "")
    await jobs.aclose()
    (passage,) = await (await retriever(tmp_path)).search(SearchQuery("text"))
    assert passage.source == "a.md"
    with pytest.raises(EmbedderError):
        Embedders([longer]).named("fake", 64)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB, where this machine lets us make one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(command, check=False).returncode:
        pytest.skip("only root can mount a small file system")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


async def flood(jobs: Jobs) -> None:
    for i in range(50):
        await jobs.submit("t", f"{i}.txt", b"text %d " % i * 500, "default")


async def test_a_full_disk_fails_what_does_not_fit_and_loses_nothing(small_disk: Path) -> None:
    store = small_disk / "store"
    jobs = await opened(store)
    await put(jobs, "first.md", "the first text")
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - 20_000))
    with pytest.raises(StoreError, match="space"):
        await flood(jobs)
    (passage,) = await (await retriever(store)).search(SearchQuery("first text", top_k=1))
    assert passage.source == "first.md"
    ballast.unlink()
    await put(jobs, "second.md", "the second text")
    for job in jobs.of("t"):
        assert (await jobs.ended("t", job.id, WAIT_S)).ended
    await jobs.aclose()
    found = await (await retriever(store)).search(SearchQuery("the text", top_k=2))
    assert {"first.md", "second.md"} <= {passage.source for passage in found}


FILE_BYTES = 64 * 1024
LIMITED = """
import asyncio, resource, sys
from pathlib import Path
from tests.integration.rag_graph.test_hostile import FILE_BYTES, opened, put
async def main():
    jobs = await opened(Path(sys.argv[1]))
    await put(jobs, "small.md", "a small text")
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, resource.RLIM_INFINITY))
    try:
        job = await jobs.submit("t", "big.txt", bytes(range(32, 127)) * 2000, "default")
        print((await jobs.ended("t", job.id, 60)).error)
    except Exception as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    await put(jobs, "after.md", "a text after that")
    await jobs.aclose()
asyncio.run(main())
"""


async def test_a_file_that_may_not_grow_is_an_error_and_work_goes_on(tmp_path: Path) -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    assert soft == resource.RLIM_INFINITY
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", LIMITED, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_S,
    )
    assert done.returncode == 0, done.stderr
    assert "too large" in done.stdout
    found = await (await retriever(tmp_path)).search(SearchQuery("a text", top_k=3))
    assert {passage.source for passage in found} == {"small.md", "after.md"}
