"""Limits counted in a real Redis, by two replicas' limiters."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from serve_app import limits
from serve_app.errors import RequestError
from serve_app.limits import Limiter
from tests.support import redis
from tests.unit.serve_app.test_auth import key

pytestmark = pytest.mark.skipif(redis.PROGRAM is None, reason="needs redis-server")
PROGRAM = redis.PROGRAM or ""


async def admitted(limiter: Limiter, times: int, **limit: int) -> int:
    """Return how many of `times` requests of acme are let in."""
    count = 0
    for _ in range(times):
        try:
            await limiter.admit(key("acme", **limit))
        except RequestError:
            continue
        count += 1
    return count


async def test_replicas_share_what_they_count() -> None:
    with redis.server(PROGRAM) as url:
        one, other = Limiter(url), Limiter(url)
        counts = await asyncio.gather(
            admitted(one, 20, requests_per_minute=15), admitted(other, 20, requests_per_minute=15)
        )
        assert sum(counts) == 15, counts
        rich = key("acme", tokens_per_minute=100)
        await one.spend(rich, 150)
        assert await admitted(other, 1, tokens_per_minute=100) == 0
        await one.aclose()
        await other.aclose()


async def test_while_redis_is_away_each_replica_counts(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "REDIS_PAUSE_S", 0.1)
    with redis.server(PROGRAM) as url:
        limiter = Limiter(url)
        assert await admitted(limiter, 1, requests_per_minute=3) == 1
    began = time.monotonic()
    with caplog.at_level(logging.WARNING):
        assert await admitted(limiter, 10, requests_per_minute=3) == 3
    assert time.monotonic() - began < 2, "requests wait for a Redis that is away"
    assert "SERVE_REDIS_URL does not answer" in caplog.text
    await limiter.aclose()
