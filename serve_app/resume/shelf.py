"""Frames of streamed answers in Redis, so that every replica can continue any of them.

Of each answer there are: what was asked, until it is whole; a stream with its frames, event n under
the id `n-0`; a mark that a replica works on it; and one that somebody reads it at another replica.
All expire.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from serve_app.errors import UnavailableError
from serve_app.resume.kept import Kept

MARK_S = 4
"""Seconds that a mark lasts; it is renewed three times as often."""
BLOCK_MS = 1000
"""Longest wait for a frame before the marks are looked at."""
PUT_TIMEOUT_S = 1.0
"""Longest that a reader waits for Redis to take a frame."""
PAUSE_S = 5.0
"""How long Redis is left alone after it did not answer."""
FRAME, END = b"frame", b"end"


logger = logging.getLogger(__name__)


class AbandonedError(Exception):
    """No replica works on an answer that is not whole."""


@dataclass(frozen=True)
class Abandoned:
    """What is left of an answer whose replica is gone."""

    asked: bytes | None
    frames: list[bytes]


class Shelf:
    """The answers in one Redis."""

    def __init__(self, url: str, window_s: float) -> None:
        self._redis: Redis = Redis.from_url(url, socket_timeout=MARK_S)
        self._seconds = math.ceil(window_s)
        self._resting_until = 0.0

    @property
    def is_resting(self) -> bool:
        """Whether Redis just failed, and is not asked to take anything for a moment."""
        return time.monotonic() < self._resting_until

    async def copy(self, key: str, kept: Kept, asked: bytes) -> None:
        """Put what was asked here, and the frames of the answer as they come, until it ends.

        A frame may be read once it is here, so that whoever makes the answer anew knows what was
        said. If Redis fails, only this replica can continue the answer: that is logged.
        """
        seen, ended = kept.copied or 0, False
        try:
            async with asyncio.timeout(PUT_TIMEOUT_S):
                await self._redis.set(_asked(key), asked, ex=self._seconds + MARK_S)
            while not ended:
                frames = await _next(kept, seen)
                ended = kept.ended and len(kept.frames) == seen + len(frames)
                async with asyncio.timeout(PUT_TIMEOUT_S):
                    if await self._put(key, seen, frames, ended=ended):
                        kept.cancel()
                seen += len(frames)
                kept.let_read(seen)
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            self._resting_until = time.monotonic() + PAUSE_S
            logger.warning("Answers cannot be continued by other replicas now: %r", error)
        finally:
            kept.let_read(None)

    async def _put(self, key: str, seen: int, frames: Sequence[bytes], *, ended: bool) -> bool:
        """Add frames and renew the mark; return whether somebody wants the work to stop."""
        pipe = self._redis.pipeline(transaction=False)
        for number, frame in enumerate(frames, seen + 1):
            pipe.xadd(key, {FRAME: frame}, id=f"{number}-0")
        if ended:
            pipe.xadd(key, {END: b""}, id=f"{seen + len(frames) + 1}-0")
            pipe.delete(_asked(key))
        else:
            pipe.expire(_asked(key), self._seconds + MARK_S)
        pipe.expire(key, self._seconds + MARK_S)
        pipe.set(_made(key), b"", ex=MARK_S)
        pipe.exists(_stopped(key))
        return bool((await pipe.execute())[-1])

    async def has(self, key: str) -> bool:
        """Whether an answer of that key is here.

        Raises:
            UnavailableError: Redis does not answer.
        """
        return await self._exists(key)

    async def is_read(self, key: str) -> bool:
        """Whether another replica reads it now. No, if Redis does not answer."""
        try:
            return await self._exists(_read(key))
        except UnavailableError:
            return False

    async def take_over(self, key: str) -> Abandoned | None:
        """Mark an answer as made here, and return what is left of it; None: another was faster.

        Raises:
            RedisError, OSError: Redis does not answer.
        """
        if not await self._redis.set(_made(key), b"", ex=MARK_S, nx=True):
            return None
        entries: Any = await self._redis.xrange(key)
        asked: Any = await self._redis.get(_asked(key))
        return Abandoned(asked, [fields[FRAME] for _, fields in entries if FRAME in fields])

    async def drop(self, key: str) -> None:
        """Forget an answer; what cannot be deleted expires."""
        try:
            await self._redis.delete(key, _made(key), _asked(key))
        except (RedisError, OSError) as error:
            logger.warning("An abandoned answer stays in Redis until it expires: %s", error)

    async def stop(self, key: str) -> None:
        """Forget an answer, and have the replica that makes it stop within MARK_S / 3.

        Raises:
            UnavailableError: Redis does not answer.
        """
        try:
            await self._redis.set(_stopped(key), b"", ex=2 * MARK_S)
            await self._redis.delete(key, _made(key), _asked(key))
        except (RedisError, OSError) as error:
            raise _silent(error) from error

    async def read(self, key: str, seen: int) -> AsyncGenerator[bytes, None]:
        """Yield the frames after the first `seen`, to the end.

        Raises:
            AbandonedError: no replica works on it any more.
            RedisError, OSError: Redis does not answer.
        """
        last: bytes | str = f"{seen}-0"
        while True:
            await self._redis.set(_read(key), b"", ex=MARK_S)
            found: Any = await self._redis.xread({key: last}, block=BLOCK_MS)
            for number, fields in found[0][1] if found else ():
                if END in fields:
                    return
                yield fields[FRAME]
                last = number
            if not found and not await self._redis.exists(_made(key)):
                raise AbandonedError

    async def aclose(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def _exists(self, key: str) -> bool:
        try:
            return bool(await self._redis.exists(key))
        except (RedisError, OSError) as error:
            raise _silent(error) from error


async def _next(kept: Kept, seen: int) -> Sequence[bytes]:
    """Return the frames after the first `seen`: none at the end, or when it is time for a mark."""
    try:
        async with asyncio.timeout(MARK_S / 3):
            return await kept.made(seen)
    except TimeoutError:
        return ()


def _silent(error: Exception) -> UnavailableError:
    return UnavailableError(f"Redis (SERVE_REDIS_URL) does not answer: {error}. Try again.")


def _asked(key: str) -> str:
    return f"{key}:asked"


def _stopped(key: str) -> str:
    return f"{key}:stopped"


def _made(key: str) -> str:
    return f"{key}:made"


def _read(key: str) -> str:
    return f"{key}:read"
