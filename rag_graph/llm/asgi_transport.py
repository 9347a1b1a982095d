"""An httpx transport into an ASGI application in this process, streaming both ways it matters.

`httpx.ASGITransport` runs the application to its end before it hands over the response, so a
token stream would arrive all at once, and could not be cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import httpx
from starlette.types import ASGIApp, Message

_Item = Message | BaseException | None
"""A message of the application, what it raised, or None when it returned."""


class StreamingASGITransport(httpx.AsyncBaseTransport):
    """Each request runs the application in a task of its own; closing the response ends it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the response as soon as the application has sent its head.

        Raises:
            httpx.RemoteProtocolError: the application returned without a response.
            Exception: whatever the application raised before its response.
        """
        exchange = _Exchange(self._app, request, await request.aread())
        try:
            start = await exchange.next()
        except BaseException:
            await exchange.aclose()
            raise
        if start is None:
            raise httpx.RemoteProtocolError("The application sent no response.", request=request)
        return httpx.Response(start["status"], headers=start["headers"], stream=exchange)


class _Exchange(httpx.AsyncByteStream):
    """One run of the application. Its messages pass through a queue of one: it feels the reader."""

    def __init__(self, app: ASGIApp, request: httpx.Request, body: bytes) -> None:
        self._messages: asyncio.Queue[_Item] = asyncio.Queue(maxsize=1)
        self._gone = asyncio.Event()
        self._body: bytes | None = body
        self._complete = False
        self._task = asyncio.create_task(self._run(app, _scope(request)))

    async def _run(self, app: ASGIApp, scope: MutableMapping[str, Any]) -> None:
        outcome: BaseException | None = None
        try:
            await app(scope, self._receive, self._messages.put)
        except Exception as error:  # noqa: BLE001 - handed to the reader, who raises it
            outcome = error
        await self._messages.put(outcome)

    async def _receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def next(self) -> Message | None:
        item = await self._messages.get()
        if isinstance(item, BaseException):
            raise item
        return item

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while not self._complete:
            message = await self.next()
            if message is None:
                raise httpx.RemoteProtocolError("The application broke off its response.")
            self._complete = not message.get("more_body", False)
            if body := message.get("body", b""):
                yield body

    async def aclose(self) -> None:
        """Tell the application that its client is gone, and end it if it goes on."""
        self._gone.set()
        self._task.cancel()
        await asyncio.wait([self._task])


def _scope(request: httpx.Request) -> MutableMapping[str, Any]:
    url = request.url
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "scheme": url.scheme,
        "path": url.path,
        "raw_path": url.raw_path.split(b"?")[0],
        "query_string": url.query,
        "server": (url.host, url.port),
        "client": ("127.0.0.1", 0),
        "root_path": "",
    }
