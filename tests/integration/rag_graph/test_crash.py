"""Writers killed at any point, two writers at once: readers never see half a document."""

from __future__ import annotations

import asyncio
import random
import sys
from asyncio.subprocess import Process
from collections import defaultdict
from pathlib import Path

import lancedb
import pytest

from rag_graph.retrieval.embedder import Embedders
from rag_graph.retrieval.locks import ProcessLock
from rag_graph.retrieval.retriever import Retriever
from rag_graph.retrieval.store import Store
from rag_graph.state import Passage, SearchQuery
from tests.support import job_runner, rewriter
from tests.support.processes import ROOT
from tests.support.rag import FakeEmbedder

KILLS = 20


async def start(folder: Path, first: int) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.rewriter", str(folder), str(first), cwd=ROOT
    )


def check(passages: list[Passage]) -> dict[str, int]:
    """Assert that every document is there once, in one version, whole. Return the versions."""
    seen: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    for passage in passages:
        _, name, version, part, parts = passage.text.split()
        seen[name].append((int(version), int(part), int(parts)))
    for name, found in seen.items():
        version, _, parts = found[0]
        assert sorted(found) == [(version, i, parts) for i in range(parts)], name
    return {name: found[0][0] for name, found in seen.items()}


class Reader:
    """Searches until it is told to stop, and checks what it finds."""

    def __init__(self, retriever: Retriever) -> None:
        self._retriever = retriever
        self.versions: dict[str, int] = {}
        self.searches = 0
        self.changed = asyncio.Event()
        """Set when a search finds another version than the last one did."""

    async def look(self) -> None:
        found = check(await self._retriever.search(SearchQuery("part", top_k=100)))
        assert found.keys() >= self.versions.keys(), "a document vanished"
        assert all(found[name] >= version for name, version in self.versions.items())
        if found != self.versions:
            self.changed.set()
        self.versions = found
        self.searches += 1

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self.look()


async def open_reader(folder: Path) -> Reader:
    used = rewriter.settings(folder)
    return Reader(Retriever(await Store.open(used), Embedders([FakeEmbedder()]), used))


async def submit_all(folder: Path, versions: int) -> None:
    """Have every version of every document queued, none of them done."""
    turn = ProcessLock(str(folder), "jobs")
    assert turn.acquire()
    jobs = await job_runner.opened(folder)
    for version in range(versions):
        for name in rewriter.DOCUMENTS:
            content = rewriter.content(name, version)
            await jobs.submit(job_runner.TENANT, name, content, "default")
    await jobs.aclose()
    turn.release()


@pytest.mark.timeout(600)  # twenty interpreters start, on a machine that may be busy
async def test_an_ingestor_killed_at_random_leaves_whole_documents_and_its_jobs_are_done(
    tmp_path: Path,
) -> None:
    versions = 80
    await submit_all(tmp_path, versions)
    reader, stop = await open_reader(tmp_path), asyncio.Event()
    reading = asyncio.create_task(reader.run(stop))
    dice, killed, ended = random.Random(5), 0, False
    while not ended:
        runner = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.support.job_runner", str(tmp_path), cwd=ROOT
        )
        if killed < KILLS:
            reader.changed.clear()
            changed = asyncio.create_task(reader.changed.wait())
            gone = asyncio.create_task(runner.wait())
            await asyncio.wait([changed, gone, reading], return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
            await asyncio.sleep(dice.random() * 0.1)
        if runner.returncode is None and killed < KILLS:
            runner.kill()
            killed += 1
        ended = await runner.wait() == 0
    stop.set()
    await reading
    await reader.look()
    assert killed == KILLS
    assert reader.versions == dict.fromkeys(rewriter.DOCUMENTS, versions - 1)
    jobs = await job_runner.opened(tmp_path)
    states = [job.status for job in jobs.of(job_runner.TENANT)]
    await jobs.aclose()
    assert states == ["done"] * versions * len(rewriter.DOCUMENTS)
    await assert_no_slot_is_doubled(tmp_path)


async def test_two_writers_at_once_do_not_mix_documents(tmp_path: Path) -> None:
    await rewriter.rewrite(tmp_path, 0, 0)
    reader = await open_reader(tmp_path)
    writers = [await start(tmp_path, 0) for _ in range(2)]
    try:
        for _ in range(40):
            check(await reader._retriever.search(SearchQuery("part", top_k=100)))
            await asyncio.sleep(0.1)
        assert [writer.returncode for writer in writers] == [None, None]
    finally:
        for writer in writers:
            writer.kill()
            await writer.wait()
    await assert_no_slot_is_doubled(tmp_path)


async def assert_no_slot_is_doubled(folder: Path) -> None:
    connection = await lancedb.connect_async(folder)
    table = await connection.open_table("default.chunks.1")
    slots = (await table.query().select(["slot"]).to_arrow())["slot"].to_pylist()
    assert len(slots) == len(set(slots))
