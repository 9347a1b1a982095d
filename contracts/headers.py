"""HTTP header names that cross the narrow strip between the two sides, and how to read them.

Names are lower case, as HTTP/2 and ASGI carry them.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping

REQUEST_ID = "x-request-id"
"""Opaque id of one request; made by the first process that lacks one, echoed in every response."""

DEADLINE_MS = "x-request-deadline-ms"
"""Milliseconds left to answer. Relative, like gRPC's `grpc-timeout`: hosts' clocks may disagree."""

TRACEPARENT = "traceparent"
"""W3C Trace Context, https://www.w3.org/TR/trace-context/."""

TENANT = "x-isthmus-tenant"
"""Whom the LLM service's scheduler is fair to; set by the gateway, opaque."""

LOAD = "x-isthmus-load"
"""Load of the LLM replica that answered: `running=3, waiting=0, kv_free=0.82, capacity=288`."""

RETRY_AFTER = "retry-after"
"""Seconds to wait before trying again; sent with every 429 and 503."""

MAX_REQUEST_ID_LENGTH = 128


def request_id(headers: Mapping[str, str]) -> str:
    """Return the caller's request id, or a new one if it sent none that can be logged safely."""
    given = headers.get(REQUEST_ID, "")
    if given.isascii() and given.isprintable() and 0 < len(given) <= MAX_REQUEST_ID_LENGTH:
        return given
    return f"req-{uuid.uuid4().hex}"


def deadline_seconds(headers: Mapping[str, str]) -> float | None:
    """Return the seconds left to answer, or None when the caller set no deadline.

    Raises:
        ValueError: the header is not a positive whole number of milliseconds.
    """
    given = headers.get(DEADLINE_MS)
    if given is None:
        return None
    if not (given.isascii() and given.isdigit() and int(given) > 0):
        raise ValueError(
            f"Header {DEADLINE_MS} must be a positive whole number of milliseconds, not {given!r}."
        )
    return int(given) / 1000
