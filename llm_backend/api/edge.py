"""What every request passes first: id, body limit, API key. And last: errors, load figures."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contracts import headers
from contracts.errors import Code
from llm_backend.api.responses import error_response
from llm_backend.api.service import Service
from llm_backend.errors import (
    EngineRejectedError,
    InvalidBodyError,
    PayloadTooLargeError,
    RequestError,
    UnauthorizedError,
)

_OPEN_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
"""Asked by the kubelet and Prometheus, which carry no key; they tell nothing of requests."""

log = logging.getLogger(__name__)


class Edge:
    """Pure ASGI middleware, so that streams pass without a copy or a task of its own."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service
        self._key = service.settings.api_key.get_secret_value()
        self._max_body = service.settings.max_body_bytes
        self._patience_s = service.settings.send_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError(f"this application serves http only, not {scope['type']}")
        scope["app"] = self  # with it, the router raises HTTPException for what it does not know
        exchange = _Exchange(send, headers.request_id(Headers(scope=scope)), self._load)
        try:
            self._check_key(scope)
            await self._app(scope, self._limited(scope, receive), exchange.send)
        except ClientDisconnect:
            return
        except (RequestError, HTTPException) as error:
            await exchange.fail(scope, receive, error, to_request_error(error, scope))
        except Exception as error:
            log.exception("Request %s failed.", exchange.request_id)
            message = f"Internal error; the service's log has it under {exchange.request_id}."
            shown = EngineRejectedError(Code.INTERNAL, message)
            await exchange.fail(scope, receive, error, shown)

    def _check_key(self, scope: Scope) -> None:
        if not self._key or scope["path"] in _OPEN_PATHS:
            return
        given = Headers(scope=scope).get("authorization", "")
        kind, _, key = given.partition(" ")
        if kind.lower() != "bearer" or not hmac.compare_digest(key.encode(), self._key.encode()):
            raise UnauthorizedError(
                "Send a valid API key as 'Authorization: Bearer KEY'.", "authorization"
            )

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        """Refuse a body that is too large, by its announced length, else while it comes.

        And one that stops coming, or a client that is gone would hold its connection for ever.
        """
        too_large = PayloadTooLargeError(
            f"The body is larger than {self._max_body} bytes; send a smaller one."
        )
        announced = Headers(scope=scope).get("content-length", "0")
        if announced.isdigit() and int(announced) > self._max_body:
            raise too_large
        read, complete = 0, False

        async def limited() -> Message:
            nonlocal read, complete
            message = await (receive() if complete else self._soon(receive))
            complete = not message.get("more_body", False)
            read += len(message.get("body", b""))
            if read > self._max_body:
                raise too_large
            return message

        return limited

    async def _soon(self, receive: Receive) -> Message:
        try:
            async with asyncio.timeout(self._patience_s):
                return await receive()
        except TimeoutError:
            message = f"Nothing of the request's body came for {self._patience_s:g} s; send it all."
            raise InvalidBodyError(Code.INVALID_REQUEST, message) from None

    def _load(self) -> str:
        """Return the load figures that a client's balancer chooses by."""
        stats, settings = self._service.dispatcher.stats, self._service.settings
        free = stats.free_blocks / stats.total_blocks if stats.total_blocks else 1.0
        return (
            f"running={stats.running}, waiting={stats.waiting}, "
            f"in_flight={self._service.dispatcher.in_flight}, kv_free={free:.2f}, "
            f"capacity={settings.max_num_seqs + settings.max_waiting}"
        )


class _Exchange:
    """One response on its way out."""

    def __init__(self, send: Send, request_id: str, load: Any) -> None:
        self._send = send
        self._load = load
        self.request_id = request_id
        self._started = False

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self._started = True
            out = MutableHeaders(raw=list(message["headers"]))
            out[headers.REQUEST_ID] = self.request_id
            out[headers.LOAD] = self._load()
            message = {**message, "headers": out.raw}
        await self._send(message)

    async def fail(
        self, scope: Scope, receive: Receive, error: Exception, shown: RequestError
    ) -> None:
        """Answer with `shown`, or break the connection when an answer has begun."""
        if self._started:
            raise error
        response = error_response(shown)
        if isinstance(error, HTTPException):
            response.headers.update(error.headers or {})  # the methods allowed, of a 405
        await response(scope, receive, self.send)


def to_request_error(error: RequestError | HTTPException, scope: Scope) -> RequestError:
    """Map the router's two errors to ours."""
    if isinstance(error, RequestError):
        return error
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        return InvalidBodyError(
            Code.METHOD_NOT_ALLOWED,
            f"{scope['path']} does not take {scope['method']}; use {allowed}.",
        )
    return InvalidBodyError(Code.NOT_FOUND, f"There is nothing at {scope['path']}.")
