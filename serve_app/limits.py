"""How often a tenant may ask: a token bucket for each, refilled evenly over the minute.

Kept in the memory of one gateway replica: with n replicas a tenant gets up to n times its limit.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from contracts.errors import Code
from serve_app.auth import Key
from serve_app.errors import RequestError

MINUTE_S = 60.0


@dataclass
class _Bucket:
    tokens: float
    filled_at: float


class Limiter:
    """Counts the requests of each tenant."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._buckets: dict[str, _Bucket] = {}

    def admit(self, key: Key) -> None:
        """Count one request of `key`.

        Raises:
            RequestError: the tenant has used up its minute; it says when to come back.
        """
        limit = key.requests_per_minute
        if limit is None:
            return
        bucket = self._refilled(key.tenant, limit)
        if bucket.tokens < 1:
            wait = (1 - bucket.tokens) * MINUTE_S / limit
            message = f"More than {limit} requests a minute; try again in {wait:.0f} s."
            raise RequestError(message, Code.RATE_LIMITED, None, wait)
        bucket.tokens -= 1

    def _refilled(self, tenant: str, limit: int) -> _Bucket:
        now = self._now()
        bucket = self._buckets.setdefault(tenant, _Bucket(limit, now))
        gained = (now - bucket.filled_at) * limit / MINUTE_S
        bucket.tokens, bucket.filled_at = min(limit, bucket.tokens + gained), now
        return bucket
