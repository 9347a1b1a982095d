"""A lookup whose answer all who ask at the same time share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class SharedLookup(Generic[T]):
    """Looks up once for everybody who asks meanwhile.

    Whoever asks while a lookup is under way shares the next one. It begins after the question, so
    that no answer is older than its question: what was committed before is seen.
    """

    def __init__(self, look_up: Callable[[], Awaitable[T]]) -> None:
        self._look_up = look_up
        self._running: asyncio.Task[T] | None = None
        self._next: asyncio.Task[T] | None = None

    async def __call__(self) -> T:
        """Return what `look_up` returns, or raise what it raises."""
        if self._next is None:
            self._next = asyncio.create_task(self._after(self._running))
        # One who asked may go away; the others still wait.
        return await asyncio.shield(self._next)

    async def _after(self, earlier: asyncio.Task[T] | None) -> T:
        if earlier is not None:
            await asyncio.wait({earlier})
        self._running, self._next = self._next, None
        return await self._look_up()
