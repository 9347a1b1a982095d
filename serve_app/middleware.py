"""Pure ASGI middleware: what holds for every request before a route sees it."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contracts.errors import Code
from serve_app.errors import RequestError
from serve_app.metrics import Metrics
from serve_app.responses import error_response

PATIENCE = 10
"""A body may take so many times as long as each pause in it, and the time of its bytes beside."""
SLOWEST_BYTES_PER_S = 4096
_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}


class Counted:
    """Counts every response by its route and status."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._requests = metrics.requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "other")  # set while it was routed
                self._requests.labels(route, message["status"]).inc()
            await send(message)

        await self._app(scope, receive, counted if scope["type"] == "http" else send)


class BodyLimit:
    """Refuses bodies over a limit, by their declared length or as they come, unread.

    And those of which nothing comes for `patience_s`, or a byte now and then: such a client would
    hold its place for ever.
    """

    def __init__(self, app: ASGIApp, json_bytes: int, upload_bytes: int, patience_s: float) -> None:
        self._app = app
        self._json_bytes = json_bytes
        self._upload_bytes = upload_bytes
        self._patience_s = patience_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        upload = headers.get(b"content-type", b"").lower().startswith(b"multipart/")
        limit = self._upload_bytes if upload else self._json_bytes
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > limit:
            await error_response(_too_large(limit))(scope, receive, send)
            return
        await self._app(scope, _guarded(receive, limit, self._patience_s), send)


class SameOrigin:
    """Refuses what a page of another site has a browser send.

    Without it, any web page that a user visits could upload documents to a gateway on that user's
    own machine: browsers send multipart forms anywhere, without asking.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in _SAFE_METHODS:
            sent = Headers(scope=scope)
            origin = sent.get("origin")
            if origin is not None and urlsplit(origin).netloc != sent.get("host"):
                message = f"Requests from pages of {origin} are refused. Call from a server."
                await error_response(RequestError(message, Code.FORBIDDEN))(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _guarded(receive: Receive, limit: int, patience_s: float) -> Receive:
    seen, complete = 0, False
    clock = asyncio.get_running_loop().time
    began = clock()

    async def guarded() -> Message:
        nonlocal seen, complete
        left_s = began + PATIENCE * patience_s + seen / SLOWEST_BYTES_PER_S - clock()
        message = await (receive() if complete else _soon(receive, min(patience_s, left_s)))
        complete = not message.get("more_body", False)
        seen += len(message.get("body", b""))
        if seen > limit:
            raise HTTPException(413, str(_too_large(limit)))  # FastAPI lets only these through
        return message

    return guarded


async def _soon(receive: Receive, patience_s: float) -> Message:
    try:
        async with asyncio.timeout(patience_s):
            return await receive()
    except TimeoutError:
        message = "The request's body did not come, or came too slowly; send all of it."
        raise HTTPException(400, message) from None


def _too_large(limit: int) -> RequestError:
    message = f"The request body is larger than {limit} bytes; send less at once."
    return RequestError(message, Code.PAYLOAD_TOO_LARGE)
