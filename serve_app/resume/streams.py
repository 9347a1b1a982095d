"""Streamed answers that outlive their connection, so that their reader can take them up again.

A client asks for it by the header `x-isthmus-resumable: true`. Its answer is then made by a task of
its own: when the connection drops, the work goes on for SERVE_RESUME_WINDOW_S, and whoever names
the last event seen gets the rest. Any other answer ends with its connection
(docs/decisions, "Resuming is asked for").

Frames are kept by the replica that makes the answer. With SERVE_REDIS_URL they are copied to Redis
too (`shelf`), where every replica finds them; without, only the replica that has them can continue.
If that replica dies, the one where the reader comes back makes the answer anew and leaves out what
was said (`said`). A key holds its tenant, so another tenant's answer is not refused but not there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from urllib.parse import quote

from redis.exceptions import RedisError

from contracts import errors, sse
from contracts.errors import Code
from serve_app.errors import RequestError
from serve_app.resume.kept import Kept
from serve_app.resume.said import Said
from serve_app.resume.shelf import AbandonedError, Shelf
from serve_app.settings import ServeSettings

Frames = AsyncGenerator[bytes, None]
Again = Callable[[bytes, Said], Frames]
"""Makes an answer anew from what was asked, and yields the frames that follow those said."""
LOST = "The replica that made this answer is gone. Ask again."
CLOCK_SLACK_S = 0.01
"""A timer may fire this much before its time."""


class Streams:
    """The answers that this replica keeps for their readers."""

    def __init__(self, settings: ServeSettings) -> None:
        self._window_s = settings.resume_window_s
        self._most_bytes = int(settings.resume_max_mib * 2**20)
        self._kept: dict[str, Kept] = {}
        self._forgetting: set[asyncio.Task[None]] = set()
        url = settings.redis_url.get_secret_value()
        self._shelf = Shelf(url, self._window_s) if url else None

    @property
    def shared(self) -> bool:
        """Whether other replicas continue the answers of this one."""
        return self._shelf is not None

    def keep(self, tenant: str, answer_id: str, frames: Frames, asked: bytes) -> Frames | None:
        """Return a reader of `frames`, which from now on are made whether it reads or not.

        None where there is no room for them. Another replica makes them anew from `asked`.
        """
        if not self._has_room():
            return None
        key, kept = _key(tenant, answer_id), Kept()
        self._begin(key, kept, frames, asked)
        return self._read(key, kept, 0)

    def _begin(self, key: str, kept: Kept, frames: Frames, asked: bytes) -> None:
        self._kept[key] = kept
        kept.maker = asyncio.create_task(_make(kept, frames))
        if self._shelf is not None and not self._shelf.is_resting:
            kept.copied = len(kept.frames)
            kept.copier = asyncio.create_task(self._shelf.copy(key, kept, asked))
        self._left(key, kept)  # a reader that never begins is one that left

    async def resume(self, tenant: str, last_event_id: str, again: Again) -> Frames:
        """Return the frames that follow the event `last_event_id`, if need be by making them anew.

        Raises:
            RequestError: the tenant has no such answer, or has it no more.
        """
        answer_id, _, number = last_event_id.rpartition(".")
        key, seen = _key(tenant, answer_id), int(number) if _is_number(number) else None
        if seen is not None:
            kept = self._kept.get(key)
            if kept is not None:
                return self._read(key, kept, seen)
            if self._shelf is not None and await self._shelf.has(key):
                return self._elsewhere(self._shelf, key, seen, again)
        raise self._not_found("last-event-id")

    async def stop(self, tenant: str, answer_id: str) -> None:
        """Stop the work on an answer, and forget it.

        Raises:
            RequestError: the tenant has no such answer, or has it no more.
        """
        key = _key(tenant, answer_id)
        kept = self._kept.pop(key, None)
        if kept is not None:
            kept.cancel()
        elif self._shelf is None or not await self._shelf.has(key):
            raise self._not_found("answer_id")
        if self._shelf is not None:
            await self._shelf.stop(key)

    def _not_found(self, param: str) -> RequestError:
        message = (
            "There is no such answer to continue or stop: it is unknown, was not asked for as "
            f"resumable, or its {self._window_s:g} s are over."
        )
        return RequestError(message, Code.NOT_FOUND, param)

    async def aclose(self) -> None:
        """Stop the work on every answer, and close the connections to Redis."""
        kept, self._kept = list(self._kept.values()), {}
        for one in kept:
            one.cancel()
        await asyncio.gather(
            *(task for one in kept for task in one.tasks()), return_exceptions=True
        )
        if self._shelf is not None:
            await self._shelf.aclose()

    async def _elsewhere(self, shelf: Shelf, key: str, seen: int, again: Again) -> Frames:
        """Yield the frames of an answer that another replica makes; if it is gone, make them here.

        What goes wrong is the last frame: an error.
        """
        kept: Kept | None = None
        try:
            while kept is None:
                try:
                    async with aclosing(shelf.read(key, seen)) as frames:
                        async for frame in frames:
                            yield frame
                            seen += 1
                except AbandonedError:
                    kept = await self._take_over(shelf, key, again)
                else:
                    return
        except (RedisError, OSError) as error:
            message = f"Redis (SERVE_REDIS_URL) broke off: {error}. Resume again."
            yield _error(Code.NOT_READY, message)
            return
        async with aclosing(self._read(key, kept, seen)) as frames:
            async for frame in frames:
                yield frame

    async def _take_over(self, shelf: Shelf, key: str, again: Again) -> Kept | None:
        """Make here what is left of an abandoned answer; None if another replica does."""
        left = await shelf.take_over(key)
        if left is None:
            return None
        kept, said = Kept(), Said.of(left.frames)
        kept.add(*left.frames)
        if said.complete or left.asked is None or not self._has_room():
            if not said.complete:
                kept.add(_error(Code.UPSTREAM_ERROR, LOST))
            kept.end()
        else:
            self._begin(key, kept, again(left.asked, said), left.asked)
        return kept

    async def _read(self, key: str, kept: Kept, seen: int) -> Frames:
        kept.begun, kept.readers = True, kept.readers + 1
        try:
            while frames := await kept.read(seen):
                for frame in frames:
                    yield frame
                seen += len(frames)
            if kept.maker is not None and kept.maker.done():
                kept.maker.result()  # what making the answer raised, if it did
        finally:
            kept.readers -= 1
            self._left(key, kept)

    def _left(self, key: str, kept: Kept) -> None:
        if kept.readers == 0:
            loop = asyncio.get_running_loop()
            kept.left_at = loop.time()
            loop.call_later(self._window_s, self._expire, key, kept)

    def _expire(self, key: str, kept: Kept) -> None:
        due = kept.left_at + self._window_s - CLOCK_SLACK_S
        if kept.readers == 0 and asyncio.get_running_loop().time() >= due:
            task = asyncio.create_task(self._forget(key, kept))
            self._forgetting.add(task)
            task.add_done_callback(self._forgetting.discard)

    async def _forget(self, key: str, kept: Kept) -> None:
        """Drop an answer that nobody came back for, and stop the work on it."""
        if self._shelf is not None and not kept.ended:
            if await self._shelf.is_read(key):
                self._left(key, kept)  # at another replica: look again after a window
                return
            await self._shelf.drop(key)
        if self._kept.get(key) is kept:
            del self._kept[key]
            kept.cancel()

    def _has_room(self) -> bool:
        """Make room, if need be, of answers that nobody reads; return whether there is some."""
        total = sum(kept.size for kept in self._kept.values())
        for key, kept in list(self._kept.items()):  # the oldest first
            if total < self._most_bytes:
                break
            if kept.begun and kept.readers == 0:
                total -= kept.size
                del self._kept[key]
                kept.cancel()
        return total < self._most_bytes


async def _make(kept: Kept, frames: Frames) -> None:
    try:
        async with aclosing(frames):
            async for frame in frames:
                kept.add(frame)
    finally:
        kept.end()


def _key(tenant: str, answer_id: str) -> str:
    return f"isthmus:answer:{quote(tenant, safe='')}:{quote(answer_id, safe='')}"


def _error(code: str, message: str) -> bytes:
    return sse.encode(errors.envelope(code, message).model_dump_json())


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10
