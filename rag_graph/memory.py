"""Conversations that are remembered: threads in a LangGraph checkpointer, each of one tenant.

A thread's key in the checkpointer holds its tenant, so another tenant's thread is not refused but
not there. Only what was said is kept (`nodes.State`), of each thread only the newest checkpoint.

`RAG_MEMORY_URL` names a SQLite file, which the processes of one machine may share, or a PostgreSQL
database for several machines. It is opened by the first question that names a thread.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote
from uuid import uuid4
from weakref import WeakValueDictionary

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple

from rag_graph.errors import MemoryStoreError, NotFoundError
from rag_graph.settings import RagSettings

POSTGRES = ("postgres://", "postgresql://")
POOL_SIZE = 4
"""Connections that one process keeps to PostgreSQL."""
EXPIRY_EVERY_S = 3600.0
"""Seconds between two looks for threads that have expired."""


@dataclass(frozen=True, slots=True)
class Thread:
    """One conversation. Times are ISO 8601, UTC."""

    id: str
    title: str
    """Its first question, cut."""
    created: str
    updated: str
    messages: int


@dataclass(frozen=True, slots=True)
class Turn:
    """A question's place in its thread."""

    saver: BaseCheckpointSaver[Any]
    config: RunnableConfig


class Memory:
    """The threads of all tenants."""

    def __init__(self, settings: RagSettings) -> None:
        self._settings = settings
        self._saver: BaseCheckpointSaver[Any] | None = None
        self._failures: tuple[type[Exception], ...] = (sqlite3.Error, OSError)
        self._opening = asyncio.Lock()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._closing = AsyncExitStack()
        self._next_expiry = 0.0

    @asynccontextmanager
    async def turn(self, tenant: str, thread_id: str) -> AsyncIterator[Turn]:
        """Hold a thread for one question; a second question of this process to it waits.

        A turn writes the whole thread. If that is deleted meanwhile, by whichever process, what the
        turn wrote goes, too.

        Raises:
            MemoryStoreError: the threads cannot be read or written.
        """
        key = _key(tenant, thread_id)
        lock = self._turns.setdefault(key, asyncio.Lock())
        async with lock:
            saver = await self._open()
            config: RunnableConfig = {
                "configurable": {"thread_id": key},
                "metadata": {"tenant": tenant, "turn": uuid4().hex},
            }
            with self._explained():
                await self._expire(saver)
                existed = await self._exists(saver, key)
                try:
                    yield Turn(saver, config)
                finally:  # a turn that fails writes, too
                    found = await _found(saver, config)
                    if existed and found.alone:
                        await saver.adelete_thread(key)
                await _prune(saver, key, found)

    async def threads(self, tenant: str) -> list[Thread]:
        """Return a tenant's threads, the latest first, without those that have expired.

        Raises:
            MemoryStoreError: the threads cannot be read.
        """
        found: dict[str, Thread] = {}
        async with aclosing(self._checkpoints({"tenant": tenant})) as checkpoints:
            async for key, checkpoint in checkpoints:
                if key not in found and (thread := _thread(key, checkpoint)):
                    found[key] = thread
        oldest = self._oldest()
        kept = [thread for thread in found.values() if thread.updated >= oldest]
        return sorted(kept, key=lambda thread: thread.updated, reverse=True)

    async def messages(self, tenant: str, thread_id: str) -> tuple[Thread, list[dict[str, Any]]]:
        """Return a thread and what was said in it: role, content, and an answer's citations.

        Raises:
            NotFoundError: the tenant has no such thread, or it has expired.
            MemoryStoreError: the threads cannot be read.
        """
        saver, key = await self._open(), _key(tenant, thread_id)
        with self._explained():
            found = await saver.aget_tuple({"configurable": {"thread_id": key}})
        thread = _thread(key, found) if found else None
        if found is None or thread is None or thread.updated < self._oldest():
            raise NotFoundError(f"There is no thread {thread_id!r}.")
        return thread, list(found.checkpoint["channel_values"]["messages"])

    async def delete(self, tenant: str, thread_id: str) -> None:
        """Forget a thread, at once; a turn that it has now is answered, but not remembered.

        Raises:
            NotFoundError: the tenant has no such thread.
            MemoryStoreError: the threads cannot be written.
        """
        await self.messages(tenant, thread_id)
        with self._explained():
            await (await self._open()).adelete_thread(_key(tenant, thread_id))

    async def aclose(self) -> None:
        """Close the database."""
        await self._closing.aclose()
        self._saver = None

    async def _open(self) -> BaseCheckpointSaver[Any]:
        async with self._opening:
            if self._saver is None:
                url = self._settings.memory_url
                opening = self._postgres(url) if url.startswith(POSTGRES) else self._sqlite(url)
                with self._explained():
                    self._saver = await opening
            return self._saver

    async def _sqlite(self, path: str) -> BaseCheckpointSaver[Any]:
        import aiosqlite  # here and below: only what the setting asks for is loaded
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

        if path != ":memory:":
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        connection = await self._closing.enter_async_context(aiosqlite.connect(path))
        await connection.execute("PRAGMA busy_timeout = 10000")  # other processes write, too
        saver = AsyncSqliteSaver(connection)
        await saver.setup()
        return saver

    async def _postgres(self, url: str) -> BaseCheckpointSaver[Any]:
        import psycopg
        from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
        from psycopg.rows import dict_row
        from psycopg_pool import AsyncConnectionPool, PoolTimeout

        self._failures = (psycopg.Error, PoolTimeout, OSError)
        options = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
        pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
            url, min_size=1, max_size=POOL_SIZE, timeout=10, open=False, kwargs=options
        )
        await self._closing.enter_async_context(pool)
        saver = AsyncPostgresSaver(pool)
        await saver.setup()
        return saver

    async def _checkpoints(
        self, matching: dict[str, Any] | None
    ) -> AsyncGenerator[tuple[str, CheckpointTuple], None]:
        """Yield keys and checkpoints, the newest first."""
        saver = await self._open()
        with self._explained():
            async for found in saver.alist(None, filter=matching):
                yield found.config["configurable"]["thread_id"], found

    async def _expire(self, saver: BaseCheckpointSaver[Any]) -> None:
        """Forget, now and then, the threads in which nothing was said for long."""
        oldest = self._oldest()
        if not oldest or time.monotonic() < self._next_expiry:
            return
        self._next_expiry = time.monotonic() + EXPIRY_EVERY_S
        newest: dict[str, str] = {}
        async with aclosing(self._checkpoints(None)) as checkpoints:
            async for key, found in checkpoints:
                newest.setdefault(key, found.checkpoint["ts"])
        for key, updated in newest.items():
            if updated < oldest:
                await saver.adelete_thread(key)

    async def _exists(self, saver: BaseCheckpointSaver[Any], key: str) -> bool:
        """Whether there is such a thread; one that has expired is forgotten now."""
        found = await saver.aget_tuple({"configurable": {"thread_id": key}})
        if found is not None and found.checkpoint["ts"] < self._oldest():
            await saver.adelete_thread(key)
            return False
        return found is not None

    def _oldest(self) -> str:
        """Return the time before which a thread's last turn is too long ago; "" where none is."""
        days = self._settings.memory_days
        return (datetime.now(UTC) - timedelta(days=days)).isoformat() if days else ""

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what the database raises into our error."""
        try:
            yield
        except self._failures as error:
            raise MemoryStoreError(
                f"The conversations cannot be read or written ({error}). Check RAG_MEMORY_URL, or "
                "ask without thread_id."
            ) from error


@dataclass(frozen=True, slots=True)
class _Found:
    """What is in a turn's thread after it."""

    own: str
    """The turn's last checkpoint; "" if there is none."""
    newest: str
    """The thread's."""
    alone: bool
    """Whether nothing is left but what the turn wrote."""


async def _found(saver: BaseCheckpointSaver[Any], config: RunnableConfig) -> _Found:
    thread: RunnableConfig = {"configurable": config["configurable"]}
    turn = config["metadata"]["turn"]
    own, others = [""], [""]
    async for found in saver.alist(thread):
        ids = own if found.metadata.get("turn") == turn else others
        ids.append(found.config["configurable"]["checkpoint_id"])
    return _Found(max(own), max(*own, *others), alone=others == [""])


async def _prune(saver: BaseCheckpointSaver[Any], key: str, found: _Found) -> None:
    """Drop what is older than the turn's checkpoint: each holds the whole conversation.

    Not the turn's own, if another process has written a newer one meanwhile: that one's turn would
    find itself alone, and take the thread for deleted. PostgreSQL's saver can only keep the newest:
    there the moment between looking and pruning remains.
    """
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

    if not isinstance(saver, AsyncSqliteSaver):
        if found.own == found.newest:
            await saver.aprune([key])
        return
    async with saver.lock:  # this saver has no aprune yet; its ids grow with time
        for table in ("checkpoints", "writes"):
            await saver.conn.execute(
                f"DELETE FROM {table} WHERE thread_id = ? AND checkpoint_id < ?",  # noqa: S608
                (key, found.own),
            )
        await saver.conn.commit()


def _key(tenant: str, thread_id: str) -> str:
    return f"{quote(tenant, safe='')}/{quote(thread_id, safe='')}"


def _thread(key: str, found: CheckpointTuple) -> Thread | None:
    """Return the thread of a checkpoint, or None when no answer was finished in it."""
    values = found.checkpoint["channel_values"]
    if not values.get("messages"):
        return None
    about = values["thread"]
    return Thread(
        id=unquote(key.partition("/")[2]),
        title=about["title"],
        created=about["created"],
        updated=found.checkpoint["ts"],
        messages=len(values["messages"]),
    )
