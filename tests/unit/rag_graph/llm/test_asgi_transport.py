"""The in-process transport streams, passes failures on, and ends what it started."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from rag_graph.llm.asgi_transport import StreamingASGITransport


def client(app: object) -> httpx.AsyncClient:
    transport = StreamingASGITransport(app)  # type: ignore[arg-type]
    return httpx.AsyncClient(transport=transport, base_url="http://app")


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    body = (await receive())["body"]
    head = f"{scope['method']} {scope['path']}?{scope['query_string'].decode()} ".encode()
    await send({"type": "http.response.start", "status": 201, "headers": [(b"x-a", b"1")]})
    await send({"type": "http.response.body", "body": head + body, "more_body": False})


async def test_a_whole_exchange() -> None:
    async with client(echo) as http:
        response = await http.post("/a/b?c=d", content=b"hello")
    assert (response.status_code, response.headers["x-a"]) == (201, "1")
    assert response.text == "POST /a/b?c=d hello"


async def test_the_first_chunk_comes_before_the_last_is_made() -> None:
    release = asyncio.Event()

    async def app(_: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await release.wait()
        await send({"type": "http.response.body", "body": b"two"})

    async with client(app) as http, http.stream("GET", "/") as response:
        chunks = response.aiter_raw()
        assert await anext(chunks) == b"one"
        release.set()
        assert [chunk async for chunk in chunks] == [b"two"]


async def test_leaving_early_ends_the_application() -> None:
    ended = asyncio.Event()

    async def app(_: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
        finally:
            ended.set()

    async with client(app) as http:
        async with http.stream("GET", "/") as response:
            await anext(response.aiter_raw())
        assert ended.is_set()


async def test_what_the_application_raises_is_raised() -> None:
    async def app(_: Scope, receive: Receive, send: Send) -> None:
        raise KeyError("mine")

    async with client(app) as http:
        with pytest.raises(KeyError, match="mine"):
            await http.get("/")


async def test_no_response_and_half_a_response_are_protocol_errors() -> None:
    async def silent(_: Scope, receive: Receive, send: Send) -> None:
        return None

    async def half(_: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})

    for app in (silent, half):
        async with client(app) as http:
            with pytest.raises(httpx.RemoteProtocolError):
                await http.get("/")
