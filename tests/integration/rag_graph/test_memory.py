"""Conversations in real databases, through the graph over the mock LLM."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from contracts.mock_llm import Fault, MockLLM, MockSettings
from rag_graph import memory
from rag_graph.errors import LLMStreamError, MemoryStoreError, NotFoundError
from rag_graph.graph import RagGraph
from rag_graph.llm.asgi_transport import StreamingASGITransport
from rag_graph.llm.client import LLMClient
from rag_graph.memory import Memory
from rag_graph.settings import RagSettings
from rag_graph.state import Answered, Passage, Question, SearchQuery
from tests.support import postgres
from tests.support.rag import passage
from tests.support.sqlite import connections_end

FIRST = "Which taint do the GPU pools carry?"
SECRET = "A passage's text that no conversation needs to keep."
PASSAGES = [
    passage(f"The GPU pools carry the taint sku=gpu:NoSchedule. {SECRET}", 1),
    passage("The replicas of Ray Serve run on CPU nodes.", 2),
]


class House:
    """A graph with a memory, over passages that never change."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.settings = RagSettings(memory_url=url, **settings)
        self.memory = Memory(self.settings)
        self.mock = MockLLM()
        self.meanwhile: Callable[[], Awaitable[None]] | None = None
        client = LLMClient("http://mock", transport=StreamingASGITransport(self.mock))
        self.graph = RagGraph(self._search, client, self.settings, self.memory)

    async def _search(self, query: SearchQuery) -> list[Passage]:
        if self.meanwhile is not None:
            await self.meanwhile()
        return PASSAGES

    async def ask(self, text: str, thread: str = "t1", tenant: str = "acme") -> Answered:
        question = Question(text, thread_id=thread, tenant=tenant)
        events = [event async for event in self.graph.answer(question)]
        assert isinstance(events[-1], Answered)
        return events[-1]


@asynccontextmanager
async def house(url: str, **settings: Any) -> AsyncIterator[House]:
    made = House(url, **settings)
    try:
        yield made
    finally:
        await made.memory.aclose()


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    binaries = postgres.programs()
    if binaries is None:
        pytest.skip("no PostgreSQL here: apt-get install postgresql")
    with postgres.server(binaries) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "new" / "threads.sqlite")
    return str(request.getfixturevalue("database"))


async def test_a_thread_is_remembered_by_the_next_process(url: str) -> None:
    async with house(url) as one:
        first = await one.ask(FIRST, "life")
        assert first.metadata["standalone_question"] == FIRST
    async with house(url) as other:
        second = await other.ask("Who carries it?", "life")
        assert second.metadata["standalone_question"].startswith("Which taint do the GPU pools")
        thread, said = await other.memory.messages("acme", "life")
    assert [turn["role"] for turn in said] == ["user", "assistant"] * 2
    assert [said[0]["content"], said[2]["content"]] == [FIRST, "Who carries it?"]
    assert said[1]["content"] == first.text
    assert said[1]["citations"][0]["source"] == "docs/1.md"
    assert (thread.id, thread.title, thread.messages) == ("life", FIRST, 4)
    assert thread.created < thread.updated


async def test_a_reader_that_leaves_at_the_answer_is_remembered(url: str) -> None:
    async with house(url) as made:
        answer = made.graph.answer(Question(FIRST, thread_id="leaves", tenant="early"))
        async for event in answer:
            if isinstance(event, Answered):
                break
        await answer.aclose()
        assert (await made.memory.messages("early", "leaves"))[0].messages == 2


async def test_threads_are_their_tenants(url: str) -> None:
    async with house(url) as made:
        await made.ask(FIRST, "mine", "a/b")
        await made.ask(FIRST, "b/mine", "a")
        assert [thread.id for thread in await made.memory.threads("a/b")] == ["mine"]
        assert [thread.id for thread in await made.memory.threads("a")] == ["b/mine"]
        assert await made.memory.threads("zeta") == []
        for tenant, thread in (("zeta", "mine"), ("a", "mine"), ("a/b", "b/mine")):
            with pytest.raises(NotFoundError, match="no thread"):
                await made.memory.messages(tenant, thread)
            with pytest.raises(NotFoundError):
                await made.memory.delete(tenant, thread)
        await made.memory.delete("a/b", "mine")
        assert await made.memory.threads("a/b") == []
        assert len(await made.memory.threads("a")) == 1


async def test_questions_to_one_thread_wait_for_each_other(url: str) -> None:
    async with house(url) as made:
        await asyncio.gather(*(made.ask(f"{FIRST} {n}", "busy", "many") for n in range(5)))
        thread, said = await made.memory.messages("many", "busy")
        assert thread.messages == 10
        assert {turn["content"] for turn in said[::2]} == {f"{FIRST} {n}" for n in range(5)}


async def test_the_forgotten_are_forgotten(url: str) -> None:
    async with house(url) as made:
        await made.ask(FIRST, "old", "expiring")
    async with house(url, memory_days=1e-9) as later:
        assert await later.memory.threads("expiring") == []
        for look in (later.memory.messages, later.memory.delete):
            with pytest.raises(NotFoundError):
                await look("expiring", "old")
        await later.ask(FIRST, "new", "expiring")
    async with house(url) as made:
        assert [thread.id for thread in await made.memory.threads("expiring")] == ["new"]


async def test_a_turn_of_a_forgotten_thread_begins_anew(url: str) -> None:
    async with house(url, memory_days=1e-9) as made:
        made.memory._next_expiry = float("inf")  # as if others were looked for just now
        await made.ask(FIRST, "again", "expiring")
        await made.ask(FIRST, "again", "expiring")
    async with house(url) as made:
        assert (await made.memory.messages("expiring", "again"))[0].messages == 2


@pytest.mark.parametrize("fault", [None, Fault.DISCONNECT])
async def test_a_thread_deleted_during_its_turn_stays_deleted(
    url: str, fault: Fault | None
) -> None:
    async with house(url) as made, house(url) as replica:
        await made.ask(FIRST, "gone", "deletes")
        made.meanwhile = lambda: replica.memory.delete("deletes", "gone")
        made.mock.settings = MockSettings(fault=fault)
        with pytest.raises(LLMStreamError) if fault else nullcontext():
            await made.ask(FIRST, "gone", "deletes")
        assert await made.memory.threads("deletes") == []
        with pytest.raises(NotFoundError):
            await made.memory.messages("deletes", "gone")


async def test_turns_of_two_replicas_delete_nothing(url: str) -> None:
    async with house(url) as made, house(url) as replica:
        await made.ask(FIRST, "shared", "both")
        async with made.memory.turn("both", "shared"):
            await replica.ask(FIRST, "shared", "both")
        assert (await made.memory.messages("both", "shared"))[0].messages == 4


async def test_turns_of_two_replicas_that_end_at_once_delete_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one prunes when the other has written, and before it looks what there is."""
    url = str(tmp_path / "threads.sqlite")
    written, pruned = asyncio.Event(), asyncio.Event()
    found, prune = memory._found, memory._prune
    async with house(url) as made, house(url) as replica:
        await made.ask(FIRST, "shared", "at once")

        async def look(saver: Any, config: Any) -> Any:
            if saver is replica.memory._saver:
                written.set()
                await pruned.wait()
                return await found(saver, config)
            seen = await found(saver, config)
            await written.wait()
            return seen

        async def pruning(*args: Any) -> None:
            await prune(*args)
            pruned.set()

        monkeypatch.setattr(memory, "_found", look)
        monkeypatch.setattr(memory, "_prune", pruning)
        async with asyncio.timeout(20):
            await asyncio.gather(*(one.ask(FIRST, "shared", "at once") for one in (made, replica)))
        assert (await made.memory.messages("at once", "shared"))[0].messages >= 4


async def test_a_broken_answer_is_not_remembered(url: str) -> None:
    async with house(url) as made:
        await made.ask(FIRST, "broken", "breaks")
        made.mock.settings = MockSettings(fault=Fault.DISCONNECT)
        with pytest.raises(LLMStreamError):
            await made.ask(FIRST, "broken", "breaks")
        made.mock.settings = MockSettings()
        assert (await made.memory.messages("breaks", "broken"))[0].messages == 2
        await made.ask(FIRST, "broken", "breaks")
        assert (await made.memory.messages("breaks", "broken"))[0].messages == 4


async def test_only_what_was_said_is_stored_and_only_once(tmp_path: Path) -> None:
    path = tmp_path / "threads.sqlite"
    async with house(str(path)) as made:
        for _ in range(4):
            await made.ask(FIRST)
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT checkpoint FROM checkpoints").fetchall()
        writes = connection.execute("SELECT value FROM writes").fetchall()
    connection.close()
    assert len(rows) == 1
    assert FIRST.encode() in rows[0][0]
    assert not any(SECRET.encode() in value for (value,) in [*rows, *writes])


async def test_a_database_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a database, but long enough to be taken for one" * 100)
    for url in (str(tmp_path / "file"), str(tmp_path / "file" / "below")):
        async with house(url) as made:
            with pytest.raises(MemoryStoreError, match="RAG_MEMORY_URL"):
                await made.ask(FIRST)
    await connections_end()
