"""Responses: JSON bodies, error envelopes, and event streams that notice when nobody listens."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from contracts import errors, headers, sse
from llm_backend.errors import RequestError


def json_response(content: bytes | str, status: int = 200) -> Response:
    """Return a response whose body is already JSON."""
    return Response(content, status, media_type="application/json")


def error_body(error: RequestError) -> bytes:
    """Return the envelope of an error, for a body or for a frame in a stream."""
    return errors.envelope(error.code, error.message, error.param).model_dump_json().encode()


def error_response(error: RequestError) -> Response:
    """Return the envelope with its code's status, and when to come back if that is worth it."""
    status = errors.STATUS.get(error.code, 500)
    response = json_response(error_body(error), status)
    if error.code in errors.RETRYABLE:
        response.headers[headers.RETRY_AFTER] = str(error.retry_after_s or 1)
    if status == 401:
        response.headers["www-authenticate"] = "Bearer"
    return response


class Answer(Response, ABC):
    """Base of the two kinds of answers: work that is dropped when the client goes away."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _unless_gone(receive, self._respond(scope, receive, send))

    @abstractmethod
    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the whole answer."""


class BodyAnswer(Answer):
    """A whole JSON body, once it is complete; an error's envelope if it cannot be."""

    def __init__(self, body: Coroutine[Any, Any, bytes]) -> None:
        self._body = body

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = json_response(await self._body)
        except RequestError as error:
            response = error_response(error)
        await response(scope, receive, send)


class StreamAnswer(Answer):
    """Event stream. The status line waits for the first frame, so that a refusal has its own.

    An error after that is sent as a frame with the envelope, and the stream ends without `[DONE]`.
    """

    def __init__(self, frames: AsyncIterator[bytes]) -> None:
        self._frames = frames

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            first = await anext(self._frames)
        except RequestError as error:
            await error_response(error)(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": _STREAM_HEADERS})
        await send({"type": "http.response.body", "body": first, "more_body": True})
        try:
            async for frames in self._frames:
                await send({"type": "http.response.body", "body": frames, "more_body": True})
        except RequestError as error:
            frame = sse.encode(error_body(error))
            await send({"type": "http.response.body", "body": frame, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


_STREAM_HEADERS = [
    (b"content-type", f"{sse.MEDIA_TYPE}; charset=utf-8".encode()),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would otherwise collect the frames
]


async def _unless_gone(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Do `work`, but drop it as soon as the client disconnects."""
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_gone(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
        if not task.done():
            task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        if not gone.done():
            raise  # it is us who are cancelled


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
