"""Errors as HTTP responses: whatever fails is answered in the envelope of `contracts.errors`."""

from __future__ import annotations

import logging
import math
from dataclasses import asdict
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Match

from contracts import errors, headers
from contracts.errors import Code, CodedError
from rag_graph.errors import (
    EmbedderError,
    LLMRequestError,
    LLMUnavailableError,
    MemoryStoreError,
    StoreError,
)
from serve_app.errors import BusyError, DegradedError

DEFAULT_RETRY_AFTER_S = 1.0
_DOWN = (EmbedderError, MemoryStoreError, StoreError)
_JSON = "application/json"
_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")

logger = logging.getLogger(__name__)


def install(api: FastAPI) -> None:
    """Have `api` answer every failure in the envelope."""
    api.add_exception_handler(RequestValidationError, _invalid)
    api.add_exception_handler(HTTPException, _http)
    api.add_exception_handler(CodedError, _ours)
    api.add_exception_handler(Exception, _unexpected)


def error_body(error: CodedError) -> errors.ErrorBody:
    """Return what a client is told of `error`, in a response's body or in a stream's frame."""
    return errors.body(public_code(error), str(error), error.param)


def public_code(error: CodedError) -> str:
    """Return the code that the gateway sends for `error`.

    A part that is down makes the gateway unavailable, neither a bad gateway nor at fault: 503
    tells every client and load balancer to try again.
    """
    if isinstance(error, _DOWN) and error.code == Code.INTERNAL:
        return Code.UNAVAILABLE
    if isinstance(error, LLMUnavailableError) and errors.STATUS[error.code] not in {429, 503}:
        return Code.NOT_READY
    if isinstance(error, LLMRequestError) and errors.STATUS[error.code] in {401, 403}:
        return Code.UPSTREAM_ERROR  # our key for the LLM is at fault, not the client's
    return error.code


def error_response(error: CodedError) -> JSONResponse:
    """Return `error` in the envelope, with the passages where the answer is degraded."""
    content = errors.ErrorEnvelope(error=error_body(error)).model_dump()
    if isinstance(error, DegradedError):
        content |= {"degraded": True, "passages": [asdict(p) for p in error.passages]}
    return _response(content, error.retry_after)


def _response(
    content: dict[str, Any], retry_after: float | None = None, status: int | None = None
) -> JSONResponse:
    status = status or errors.STATUS[content["error"]["code"]]
    extra = {}
    if status in {429, 503}:
        seconds = math.ceil(DEFAULT_RETRY_AFTER_S if retry_after is None else retry_after)
        extra[headers.RETRY_AFTER] = str(seconds)
    if status == 401:
        extra["www-authenticate"] = "Bearer"
    return JSONResponse(content, status, headers=extra)


async def _ours(_: Request, error: Exception) -> Response:
    assert isinstance(error, CodedError)  # noqa: S101 - what install() registered
    refused = isinstance(error, BusyError)  # /metrics counts them; a line each would cost more
    if errors.STATUS[public_code(error)] >= 500 and not refused:
        logger.warning("%s: %s", type(error).__name__, error)
    return error_response(error)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - what install() registered
    if _not_json(request, error):
        message = f"Send the body as JSON, with the header Content-Type: {_JSON}."
        return _response(errors.envelope(Code.UNSUPPORTED_MEDIA_TYPE, message).model_dump())
    body = errors.from_validation(_without_location(error))
    return _response(errors.ErrorEnvelope(error=body).model_dump())


def _not_json(request: Request, error: RequestValidationError) -> bool:
    """Whether a body was read as plain bytes because its content type is not JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    unread = any(e["loc"] == ("body",) and e["type"] != "missing" for e in error.errors())
    return unread and kind != _JSON and not kind.startswith("multipart/")


def _without_location(error: RequestValidationError) -> list[Any]:
    """Return pydantic's complaints without FastAPI's "query", "path" or "header" in front."""
    places = ("query", "path", "header")
    return [
        e | {"loc": e["loc"][1:]} if e["loc"][:1] and e["loc"][0] in places else e
        for e in error.errors()
    ]


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - what install() registered
    if error.status_code == 404:
        body = errors.envelope(Code.NOT_FOUND, f"There is nothing at {request.url.path}.")
    elif error.status_code == 405:
        message = f"{request.url.path} does not take {request.method}."
        body = errors.envelope(Code.METHOD_NOT_ALLOWED, message)
    else:
        code = Code.PAYLOAD_TOO_LARGE if error.status_code == 413 else Code.INVALID_REQUEST
        body = errors.envelope(code, f"{str(error.detail).rstrip('.')}.")
    response = _response(body.model_dump())
    response.headers.update(error.headers or {})
    if error.status_code == 405:
        response.headers["allow"] = ", ".join(_allowed(request))
    return response


def _allowed(request: Request) -> list[str]:
    """Return the methods that a path takes: of all its routes, where the router names one's."""
    scopes = ({**request.scope, "method": method} for method in _METHODS)
    return [
        scope["method"]
        for scope in scopes
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)
    ]


async def _unexpected(request: Request, error: Exception) -> Response:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    request_id = request.headers.get(headers.REQUEST_ID, "none")
    message = f"The gateway failed; its log has the reason under request id {request_id}."
    return _response(errors.envelope(Code.INTERNAL, message).model_dump())
