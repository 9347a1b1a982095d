"""What the LLM service and httpx say when things go wrong, as `rag_graph` errors."""

from __future__ import annotations

import math

import httpx
from pydantic import ValidationError

from contracts import errors, headers
from contracts.errors import Code
from rag_graph.errors import (
    LLMError,
    LLMRequestError,
    LLMStreamError,
    LLMTimeoutError,
    LLMUnavailableError,
)

MAX_RETRY_AFTER_S = 3600.0
AT_DEADLINE_S = 1.0
"""Seconds to the deadline in which nobody else needs to be asked."""


def from_status(
    url: str, status: int, body: bytes, given: httpx.Headers, left_s: float = math.inf
) -> LLMError:
    """Return the error that a response other than 2xx means.

    Args:
        url: the service's.
        status: the response's.
        body: the response's.
        given: the response's headers.
        left_s: seconds to the request's deadline. A proxy that gives up before it says nothing
            about others, who may still answer in time.
    """
    said = _parse(body)
    code = said.code if said and said.code in errors.STATUS else None
    reason = said.message if said else f"it answered HTTP {status}"
    if status in (401, 403):
        return LLMUnavailableError(
            f"The LLM service at {url} refused our key: {reason} Set RAG_LLM_API_KEY."
        )
    if status == 429:
        return LLMUnavailableError(reason, Code.RATE_LIMITED, None, retry_after(given))
    if code == Code.REQUEST_TIMEOUT or (status == 504 and left_s < AT_DEADLINE_S):
        return LLMTimeoutError(reason)
    if status == 503:
        return LLMUnavailableError(reason, code or Code.OVERLOADED, None, retry_after(given))
    if 400 <= status < 500:
        return LLMRequestError(reason, code, said.param if said else None)
    return LLMUnavailableError(f"The LLM service at {url} failed: {reason}")


def from_transport(url: str, error: httpx.HTTPError, *, started: bool) -> LLMError:
    """Return the error that a failure of the connection means.

    Args:
        url: the service's.
        error: what httpx raised.
        started: whether a part of the answer had come.
    """
    if started:
        return LLMStreamError(
            f"The LLM service at {url} broke off in the middle of the answer. Ask again."
        )
    reason = str(error) or type(error).__name__
    return LLMUnavailableError(
        f"The LLM service at {url} cannot be reached ({reason}). "
        "Check that it runs and that RAG_LLM_URL is right."
    )


def from_frame(data: str) -> LLMStreamError | None:
    """Return the error that a frame of a stream carries, if it carries one."""
    if not data.startswith('{"error"') and '"error"' not in data:
        return None
    said = _parse(data.encode())
    if said is None:
        return None
    return LLMStreamError(said.message, said.code if said.code in errors.STATUS else None)


def retry_after(given: httpx.Headers) -> float | None:
    """Return the seconds that `Retry-After` asks to wait, if it says so in seconds."""
    value = given.get(headers.RETRY_AFTER, "")
    return min(float(value), MAX_RETRY_AFTER_S) if value.isascii() and value.isdigit() else None


def _parse(body: bytes) -> errors.ErrorBody | None:
    try:
        return errors.ErrorEnvelope.model_validate_json(body).error
    except ValidationError:
        return None  # a proxy's page, or another service's form: the status says enough
