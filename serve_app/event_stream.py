"""A streamed response whose source is closed as soon as its client is gone.

Starlette's `StreamingResponse` cancels the stream through an anyio scope, whose cancellation is
raised anew at every `await`: the cleanup that has to tell the LLM service to stop never gets to
run. Here a plain task is cancelled once, and then awaited.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from contracts import sse

_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


class EventStream(Response):
    """Server-sent events."""

    media_type = sse.MEDIA_TYPE

    def __init__(
        self, frames: AsyncGenerator[bytes, None], extra: Mapping[str, str] | None = None
    ) -> None:
        """Make a response of `frames`, with `extra` headers."""
        super().__init__(headers={**_HEADERS, **(extra or {})})
        del self.headers["content-length"]
        self._frames = frames

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the frames until they end or the client hangs up."""
        pump = asyncio.create_task(self._pump(send))
        gone = asyncio.create_task(_until_gone(receive))
        try:
            await asyncio.wait({pump, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            finished = pump.done()
            pump.cancel()
            await asyncio.wait({pump, gone})
        if finished:
            pump.result()  # what the source raised, if it did

    async def _pump(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        async with aclosing(self._frames) as frames:
            await send(start)
            async for frame in frames:
                await send({"type": "http.response.body", "body": frame, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
