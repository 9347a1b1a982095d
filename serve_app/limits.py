"""How much a tenant may ask in a minute: requests, and tokens of prompts and answers.

Counted by the `limits` library, in the Redis that SERVE_REDIS_URL names and all replicas share, or
in this replica's memory: with n replicas a tenant then gets up to n times its limit. While Redis
does not answer, each replica counts for itself.

Requests are counted as they come. Tokens are known when an answer ends: it is finished whatever it
took, and the next is refused until the minute is over.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from limits import RateLimitItemPerMinute
from limits.aio import storage
from limits.aio.strategies import FixedWindowRateLimiter, SlidingWindowCounterRateLimiter
from limits.errors import StorageError
from redis.asyncio import ConnectionPool

from contracts.errors import Code
from serve_app.auth import Key
from serve_app.errors import RequestError

T = TypeVar("T")

REDIS_TIMEOUT_S = 0.5
REDIS_PAUSE_S = 5.0
"""How long Redis is left alone after it did not answer."""

log = logging.getLogger(__name__)


class _PerMinute(RateLimitItemPerMinute):
    """Counted under one name whatever the amount: a tenant's keys may have different ones."""

    def key_for(self, *identifiers: bytes | str | float) -> str:
        """Return the counter's name."""
        return RateLimitItemPerMinute(1).key_for(*identifiers)


class _Counts:
    """The counters of one storage."""

    def __init__(self, store: storage.MemoryStorage | storage.RedisStorage) -> None:
        self._requests = SlidingWindowCounterRateLimiter(store)
        self._tokens = FixedWindowRateLimiter(store)

    async def request(self, key: Key) -> float | None:
        """Count a request; return the seconds to wait when it is one too many."""
        if limit := key.tokens_per_minute:
            item = _PerMinute(limit)
            if not await self._tokens.test(item, "tokens", key.tenant):
                return _seconds_to(
                    (await self._tokens.get_window_stats(item, "tokens", key.tenant)).reset_time
                )
        if limit := key.requests_per_minute:
            item = _PerMinute(limit)
            if not await self._requests.hit(item, "requests", key.tenant):
                return _seconds_to(
                    (await self._requests.get_window_stats(item, "requests", key.tenant)).reset_time
                )
        return None

    async def spend(self, key: Key, tokens: int) -> None:
        """Count tokens, also beyond the limit."""
        if limit := key.tokens_per_minute:
            await self._tokens.hit(_PerMinute(limit), "tokens", key.tenant, cost=tokens)


class Limiter:
    """Counts what each tenant asks."""

    def __init__(self, redis_url: str = "") -> None:
        """Make a limiter; nothing is connected yet.

        Args:
            redis_url: redis://… or rediss://…; empty: this process's memory.
        """
        self._memory = _Counts(storage.MemoryStorage())
        self._pool = ConnectionPool.from_url(redis_url) if redis_url else None
        self._redis = _Counts(_store(redis_url, self._pool)) if self._pool else None
        self._resting_until = 0.0

    async def admit(self, key: Key) -> None:
        """Count one request of `key`.

        Raises:
            RequestError: the tenant has used up its minute; it says when to come back.
        """
        wait = await self._counted(lambda counts: counts.request(key))
        if wait is not None:
            message = f"{_limits(key)} are used up; try again in {wait:.0f} s."
            raise RequestError(message, Code.RATE_LIMITED, None, wait)

    async def spend(self, key: Key, tokens: int) -> None:
        """Count the tokens that an answer took."""
        if tokens:
            await self._counted(lambda counts: counts.spend(key, tokens))

    async def aclose(self) -> None:
        """Close the connections to Redis."""
        if self._pool is not None:
            await self._pool.aclose()

    async def _counted(self, count: Callable[[_Counts], Awaitable[T]]) -> T:
        if self._redis is not None and time.monotonic() >= self._resting_until:
            try:
                async with asyncio.timeout(REDIS_TIMEOUT_S):
                    return await count(self._redis)
            except (StorageError, TimeoutError) as error:
                self._resting_until = time.monotonic() + REDIS_PAUSE_S
                log.warning("SERVE_REDIS_URL does not answer, limits are per replica: %r", error)
        return await count(self._memory)


def _store(url: str, pool: ConnectionPool) -> storage.RedisStorage:
    return storage.RedisStorage(
        f"async+{url}",
        connection_pool=pool,  # type: ignore[arg-type]  # typed for another client's pools
        wrap_exceptions=True,
        implementation="redispy",
    )


def _seconds_to(moment: float) -> float:
    return max(1.0, moment - time.time())


def _limits(key: Key) -> str:
    parts = [
        f"{limit} {what} a minute"
        for limit, what in (
            (key.requests_per_minute, "requests"),
            (key.tokens_per_minute, "tokens"),
        )
        if limit is not None
    ]
    return "Your " + " and ".join(parts)
