"""Documents that are ready at the same time are committed together.

A commit costs the same for one small document as for fifty, and only one can be under way in a
collection: so what gets ready during a commit shares the next one.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass

from rag_graph.errors import StoreError
from rag_graph.retrieval.collection import Collection
from rag_graph.retrieval.slots import Update
from rag_graph.retrieval.store import Store

MAX_CHUNKS = 4096
"""Chunks of one commit, more only where a single document has them."""


@dataclass(frozen=True)
class _Waiting:
    update: Update
    stored: asyncio.Future[bool]


class Committer:
    """Writes documents into collections, several with one commit where they come together."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[Collection, list[_Waiting]] = defaultdict(list)
        self._working: dict[Collection, asyncio.Task[None]] = {}

    async def store(self, target: Collection, update: Update) -> bool:
        """Return once `update` is stored; False if another version took over from `target`.

        Cancelling the call does not cancel the commit.

        Raises:
            StoreError: the tables cannot be written.
        """
        waiting = _Waiting(update, asyncio.get_running_loop().create_future())
        self._waiting[target].append(waiting)
        if target not in self._working:
            self._working[target] = asyncio.create_task(self._work(target))
        return await asyncio.shield(waiting.stored)

    async def _work(self, target: Collection) -> None:
        while batch := _next(self._waiting[target]):
            await self._commit(target, batch)
        del self._working[target], self._waiting[target]

    async def _commit(self, target: Collection, batch: list[_Waiting]) -> None:
        try:
            stored = await target.replace([w.update for w in batch], self._store.is_live)
        except StoreError as error:
            if len(batch) == 1:
                _fail(batch[0], error)
                return
            for waiting in batch:  # which of them cannot be stored?
                await self._commit(target, [waiting])
            return
        for waiting in batch:
            if not waiting.stored.done():
                waiting.stored.set_result(stored)


def _fail(waiting: _Waiting, error: StoreError) -> None:
    if not waiting.stored.done():
        waiting.stored.set_exception(error)
        waiting.stored.exception()  # seen, also when nobody waits any more


def _next(waiting: list[_Waiting]) -> list[_Waiting]:
    """Take from `waiting` what the next commit holds: no document twice, no more than fits."""
    batch: list[_Waiting] = []
    seen: set[str] = set()
    chunks = 0
    for one in waiting:
        chunks += len(one.update.chunks)
        if one.update.document_id in seen or (batch and chunks > MAX_CHUNKS):
            break
        batch.append(one)
        seen.add(one.update.document_id)
    del waiting[: len(batch)]
    return batch
