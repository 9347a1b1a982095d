"""Clients that mean no good, on a real socket: slow bodies, floods of headers, strange names."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from serve_app import middleware
from serve_app.api import create_api
from serve_app.auth import Keys
from serve_app.routes.documents import document_name
from serve_app.services import Services
from serve_app.settings import ServeSettings
from tests.support.processes import free_port, wait_for
from tests.unit.serve_app.conftest import Fakes

HEAD = (
    b"POST /v1/search HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    b"connection: close\r\n"
)


@asynccontextmanager
async def gateway() -> AsyncIterator[int]:
    """Serve the routes over fakes; yields the port."""
    fakes = Fakes()
    changed = {"serve": ServeSettings(body_timeout_s=0.2, max_request_bytes=1024)}
    api = create_api(Services(**{**vars(fakes.services(Keys(()))), **changed}))
    server = uvicorn.Server(uvicorn.Config(api, port=free_port(), log_level="error"))
    task = asyncio.create_task(server.serve())
    await asyncio.to_thread(wait_for, lambda: server.started, 10, "the gateway listens")
    try:
        yield server.config.port
    finally:
        server.should_exit = True
        await task
        await fakes.memory.aclose()


async def sent(port: int, *parts: bytes, pause_s: float = 0) -> bytes:
    """Send `parts` one after the other; return all that comes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
        await asyncio.sleep(pause_s)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return answer


async def test_a_body_that_stops_coming_is_refused() -> None:
    async with gateway() as port:
        answer = await sent(port, HEAD + b'content-length: 90\r\n\r\n{"query": ')
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"did not come, or came too slowly" in answer


async def test_a_body_that_comes_byte_by_byte_is_refused() -> None:
    async def trickle() -> Message:
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": b" ", "more_body": True}

    async def reads_on(_: Scope, receive: Receive, __: Send) -> None:
        while True:
            await receive()

    async def send(_: Message) -> None:
        raise AssertionError("nothing is answered here")

    limit = middleware.BodyLimit(reads_on, 10**6, 10**6, patience_s=0.05)
    scope = {"type": "http", "headers": []}
    async with asyncio.timeout(10):
        with pytest.raises(HTTPException, match="came too slowly"):
            await limit(scope, trickle, send)


async def test_a_slow_body_that_goes_on_is_read() -> None:
    body = b'{"query": "slow but steady"}'
    head = HEAD + b"content-length: %d\r\n\r\n" % len(body)
    pieces = [body[i : i + 4] for i in range(0, len(body), 4)]
    async with gateway() as port:
        answer = await sent(port, head, *pieces, pause_s=0.05)
    assert answer.startswith(b"HTTP/1.1 200")


async def test_a_body_without_a_length_is_cut_at_the_limit() -> None:
    chunk = b"%x\r\n%s\r\n" % (600, b" " * 600)
    async with gateway() as port:
        answer = await sent(port, HEAD + b"transfer-encoding: chunked\r\n\r\n", *[chunk] * 3)
    assert answer.startswith(b"HTTP/1.1 413")


async def test_a_hundred_megabytes_are_refused_unread() -> None:
    async with gateway() as port:
        answer = await sent(port, HEAD + b"content-length: 104857600\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413")


async def test_a_flood_of_headers_is_refused() -> None:
    flood = b"".join(b"x-%d: %s\r\n" % (n, b"y" * 1000) for n in range(200))
    async with gateway() as port:
        answer = await sent(port, HEAD + flood + b"content-length: 2\r\n\r\n{}")
        assert answer.startswith(b"HTTP/1.1 4") or not answer
        good = await sent(port, HEAD + b'content-length: 14\r\n\r\n{"query": "a"}')
    assert good.startswith(b"HTTP/1.1 200"), "others are served on"


@pytest.mark.parametrize(
    ("sent_name", "name"),
    [
        ("../../etc/passwd", "etc/passwd"),
        ("/etc/passwd", "etc/passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("a/./../b.md", "a/b.md"),
        ("C:\\docs\\a.md", "C:/docs/a.md"),
    ],
)
def test_a_file_name_leaves_no_folder(sent_name: str, name: str) -> None:
    assert document_name(sent_name) == name
