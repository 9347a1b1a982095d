"""HTTP header names that cross the narrow strip between the two sides, and how to read them.

Names are lower case, as HTTP/2 and ASGI carry them.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

REQUEST_ID = "x-request-id"
"""Opaque id of one request; made by the first process that lacks one, echoed in every response."""

DEADLINE_MS = "x-request-deadline-ms"
"""Milliseconds left to answer. Relative, like gRPC's `grpc-timeout`: hosts' clocks may disagree."""

TRACEPARENT = "traceparent"
"""W3C Trace Context, https://www.w3.org/TR/trace-context/."""

TENANT = "x-isthmus-tenant"
"""Whom the LLM service's scheduler is fair to; set by the gateway, opaque."""

LOAD = "x-isthmus-load"
"""Load of the LLM replica that answered; see `Load`."""

LAST_EVENT_ID = "last-event-id"
"""The last event that a client saw of a stream it wants the rest of, as browsers send it."""

RESUMABLE = "x-isthmus-resumable"
"""`true` asks that a streamed answer can be taken up again; answered with the seconds for it."""

RETRY_AFTER = "retry-after"
"""Seconds to wait before trying again; sent with every 429 and 503."""

MAX_REQUEST_ID_LENGTH = 128

MAX_DEADLINE_DIGITS = 10
"""Of a deadline in milliseconds: 115 days."""

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[!-~]{1,256})?")
_LOAD_FIELD = re.compile(r"(\w+)=(\d+)(?=,|$)")


@dataclass(frozen=True, slots=True)
class Load:
    """How busy an LLM replica is, in sequences."""

    running: int
    """In the batch."""
    waiting: int
    """Accepted, and not yet in the batch."""
    in_flight: int
    """Accepted and not yet ended, by the front end's count: ahead of the engine's."""
    capacity: int
    """Beyond this many in flight the replica refuses."""


def load(given: Mapping[str, str]) -> Load | None:
    """Return the load that a response with the headers `given` reports.

    `running=3, waiting=0, in_flight=3, kv_free=0.82, capacity=288`: fields that are not known are
    skipped. None when the header is missing or lacks a field, as with any other LLM service.
    """
    found = dict(_LOAD_FIELD.findall(given.get(LOAD, "")))
    try:
        return Load(*(int(found[name]) for name in Load.__slots__))
    except KeyError:
        return None


def request_id(headers: Mapping[str, str]) -> str:
    """Return the caller's request id, or a new one if it sent none that can be logged safely."""
    given = headers.get(REQUEST_ID, "")
    if given.isascii() and given.isprintable() and 0 < len(given) <= MAX_REQUEST_ID_LENGTH:
        return given
    return f"req-{uuid.uuid4().hex}"


def traceparent(headers: Mapping[str, str]) -> str | None:
    """Return the caller's trace context; None if there is none, or none that can be sent on.

    A wrong one is left out, as the specification asks.
    """
    given = headers.get(TRACEPARENT, "")
    return given if _TRACEPARENT.fullmatch(given) else None


def deadline_seconds(headers: Mapping[str, str]) -> float | None:
    """Return the seconds left to answer, or None when the caller set no deadline.

    Raises:
        ValueError: the header is not a positive whole number of milliseconds, or is too long.
    """
    given = headers.get(DEADLINE_MS)
    if given is None:
        return None
    digits = given.isascii() and given.isdigit() and len(given) <= MAX_DEADLINE_DIGITS
    if not digits or int(given) == 0:
        raise ValueError(
            f"Header {DEADLINE_MS} must be a positive whole number of milliseconds, of "
            f"{MAX_DEADLINE_DIGITS} digits at most, not {given[:40]!r}."
        )
    return int(given) / 1000
