"""A tenant's minute, counted in memory; Redis has an integration test."""

from __future__ import annotations

import logging

import pytest

from contracts.errors import Code
from serve_app.auth import Key
from serve_app.errors import RequestError
from serve_app.limits import Limiter
from tests.unit.serve_app.test_auth import key


async def refused(limiter: Limiter, who: Key) -> RequestError:
    with pytest.raises(RequestError) as error:
        await limiter.admit(who)
    assert error.value.code == Code.RATE_LIMITED
    assert error.value.retry_after is not None
    assert 0 < error.value.retry_after <= 60
    return error.value


async def test_a_tenant_that_floods_is_told_when_to_come_back() -> None:
    limiter = Limiter()
    flood, other = key("flood", requests_per_minute=2), key("other", requests_per_minute=2)
    await limiter.admit(flood)
    await limiter.admit(flood)
    assert "2 requests a minute" in str(await refused(limiter, flood))
    await limiter.admit(other)


async def test_tokens_are_counted_also_beyond_the_limit() -> None:
    limiter, who = Limiter(), key("acme", tokens_per_minute=100)
    await limiter.admit(who)
    await limiter.spend(who, 99)
    await limiter.admit(who)
    await limiter.spend(who, 500)
    assert "100 tokens a minute" in str(await refused(limiter, who))


async def test_the_keys_of_a_tenant_count_together() -> None:
    limiter = Limiter()
    few, many = (key(f"k{n}", tenant="acme", requests_per_minute=n) for n in (2, 3))
    await limiter.admit(few)
    await limiter.admit(many)
    await refused(limiter, few)
    await limiter.admit(many)
    await refused(limiter, many)


async def test_tokens_of_a_tenants_keys_count_together() -> None:
    limiter = Limiter()
    few, many = (key(f"k{n}", tenant="acme", tokens_per_minute=n) for n in (100, 200))
    await limiter.spend(few, 150)
    await limiter.admit(many)
    await limiter.spend(many, 50)
    await refused(limiter, many)


async def test_no_limit_is_no_limit() -> None:
    limiter, who = Limiter(), key("acme")
    for _ in range(1000):
        await limiter.admit(who)
        await limiter.spend(who, 10**9)


async def test_without_redis_each_replica_counts(caplog: pytest.LogCaptureFixture) -> None:
    limiter, who = Limiter("redis://127.0.0.1:1/0"), key("acme", requests_per_minute=2)
    with caplog.at_level(logging.WARNING):
        await limiter.admit(who)
        await limiter.admit(who)
        await refused(limiter, who)
    assert caplog.text.count("SERVE_REDIS_URL does not answer") == 1
