"""Parsing in real processes: limits hold, a bad document costs only itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import psutil
import pytest

from rag_graph.errors import DocumentTooLargeError, UnreadableDocumentError
from rag_graph.ingest.parse import Limits
from rag_graph.ingest.sandbox import Sandbox
from tests.support import documents
from tests.support.rag import pdf

LIMITS = Limits(100, 300_000_000, 50_000_000, 30.0, 2**31)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    sandbox = Sandbox(LIMITS, 1)
    yield sandbox
    await sandbox.aclose()


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


async def test_one_process_reads_many_documents(sandbox: Sandbox) -> None:
    before = children()
    assert (await sandbox.parse("a.md", b"# A\n\nText.")).title == "A"
    first = children() - before
    assert (await sandbox.parse("b.pdf", pdf("Page."))).sections[0].page == 1
    with pytest.raises(UnreadableDocumentError, match=r"c\.pdf is not a PDF"):
        await sandbox.parse("c.pdf", b"garbage")
    assert (await sandbox.parse("d.docx", documents.docx("H", "B"))).title == "H"
    assert children() - before == first
    await sandbox.aclose()
    assert children() - before == set()


async def test_processes_end_when_nothing_comes_and_start_again() -> None:
    quick = Sandbox(LIMITS, 1, idle_s=0.1)
    before = children()
    for _ in range(2):
        await quick.parse("a.md", b"text")
        (worker,) = children() - before
        await asyncio.to_thread(psutil.wait_procs, [psutil.Process(worker)], timeout=10)
        assert children() == before
    await quick.aclose()


async def test_a_late_parse_is_killed_and_the_next_one_works(sandbox: Sandbox) -> None:
    hasty = Sandbox(replace(LIMITS, timeout_s=0.01), 1)
    before = children()
    with pytest.raises(DocumentTooLargeError, match=r"longer than 0\.01 s"):
        await hasty.parse("a.md", b"text")
    assert children() == before
    assert (await sandbox.parse("a.md", b"text")).title == "a"


async def test_memory_is_limited(sandbox: Sandbox) -> None:
    tight = Sandbox(replace(LIMITS, memory_bytes=2**28), 1)
    sheet = b"a,b,c\n" + b"1,2,3\n" * 2_000_000
    before = children()
    with pytest.raises((DocumentTooLargeError, UnreadableDocumentError), match="MEMORY"):
        await tight.parse("a.csv", sheet)
    assert children() == before
    assert (await sandbox.parse("b.md", b"text")).title == "b"


async def test_a_process_that_dies_costs_one_document(sandbox: Sandbox) -> None:
    before = children()
    await sandbox.parse("a.md", b"text")
    (worker,) = children() - before
    psutil.Process(worker).kill()
    psutil.Process(worker).wait()
    with pytest.raises(UnreadableDocumentError, match=r"b\.md ended the process"):
        await sandbox.parse("b.md", b"text")
    assert (await sandbox.parse("b.md", b"text")).title == "b"
