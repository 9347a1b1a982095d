"""What people thought of their answers: kept beside the threads, each tenant's for itself.

`RAG_MEMORY_URL` names where: a SQLite file, or a PostgreSQL database that several machines share.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from langgraph.store.base import BaseStore

from rag_graph.errors import MemoryStoreError
from rag_graph.memory import POSTGRES

POOL_SIZE = 2


def _place(tenant: str) -> tuple[str, str]:
    """Return where a tenant's feedback is; a part of a place has no dot, a tenant may."""
    return "feedback", quote(tenant, safe="").replace(".", "%2E")


class FeedbackStore:
    """The feedback of all tenants. The database is opened by its first use."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._store: BaseStore | None = None
        self._opening = asyncio.Lock()
        self._closing = AsyncExitStack()
        self._failures: tuple[type[Exception], ...] = (sqlite3.Error, OSError)

    async def put(self, tenant: str, answer_id: str, said: Mapping[str, Any]) -> None:
        """Keep what was said of an answer, in place of what was said before.

        Raises:
            MemoryStoreError: it cannot be written.
        """
        store = await self._open()
        with self._explained():
            await store.aput(_place(tenant), answer_id, dict(said))

    async def latest(self, tenant: str, limit: int, offset: int) -> list[dict[str, Any]]:
        """Return a tenant's feedback, the latest first, each with its `answer_id` and `given`.

        Raises:
            MemoryStoreError: it cannot be read.
        """
        store = await self._open()
        with self._explained():
            found = await store.asearch(_place(tenant), limit=limit, offset=offset)
        return [
            {"answer_id": item.key, "given": item.updated_at.isoformat(), **item.value}
            for item in found
            if item.namespace == _place(tenant)
        ]

    async def aclose(self) -> None:
        """Close the database."""
        await self._closing.aclose()
        self._store = None

    async def _open(self) -> BaseStore:
        async with self._opening:
            if self._store is None:
                with self._explained():
                    self._store = await self._opened()
            return self._store

    async def _opened(self) -> BaseStore:
        if not self._url.startswith(POSTGRES):
            from langgraph.store.sqlite.aio import AsyncSqliteStore  # only what is asked for

            if self._url != ":memory:":
                Path(self._url).parent.mkdir(parents=True, exist_ok=True)
            opening = AsyncSqliteStore.from_conn_string(self._url)
            lite = await self._closing.enter_async_context(opening)
            await lite.conn.execute("PRAGMA busy_timeout = 10000")  # other processes write, too
            await lite.setup()
            return lite
        import psycopg
        from langgraph.store.postgres.aio import AsyncPostgresStore
        from psycopg_pool import PoolTimeout

        self._failures = (psycopg.Error, PoolTimeout, OSError)
        postgres = await self._closing.enter_async_context(
            AsyncPostgresStore.from_conn_string(
                self._url, pool_config={"min_size": 1, "max_size": POOL_SIZE}
            )
        )
        await postgres.setup()
        return postgres

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except self._failures as error:
            raise MemoryStoreError(
                f"Feedback cannot be read or written ({error}). Check RAG_MEMORY_URL."
            ) from error
