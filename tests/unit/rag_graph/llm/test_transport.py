"""The client against services that break the protocol, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager

import pytest

from contracts.openai import ChatCompletionRequest, ChatMessage
from contracts.streaming import ChatFrames
from rag_graph.errors import LLMError, LLMStreamError, LLMTimeoutError, LLMUnavailableError
from rag_graph.llm.client import LLMClient
from rag_graph.llm.transcript import End, Piece
from rag_graph.llm.transport import Transport

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

REQUEST = ChatCompletionRequest(
    model="mock", messages=[ChatMessage(role="user", content="one two three")]
)
FRAMES = ChatFrames("id", 0, "mock")
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@asynccontextmanager
async def client_of(serve: Serve) -> AsyncIterator[LLMClient]:
    """Yield a client of a server that takes a request and then does as `serve` does."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if b"content-length" in line)
        await reader.readexactly(int(length.partition(b":")[2]))
        try:
            await serve(reader, writer)
            await writer.drain()
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = LLMClient(f"http://127.0.0.1:{port}")
    async with server, aclosing(client):
        yield client


def saying(*parts: bytes, then: bytes = b"", reset: bool = False) -> Serve:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.writelines(parts)
        await writer.drain()
        if then or reset:
            await asyncio.sleep(0.05)  # the client has read what came
            writer.write(then)
        if reset:
            writer.transport.abort()

    return serve


async def heard(client: LLMClient, timeout_s: float = 10.0) -> list[Piece | End]:
    return [output async for output in client.stream(REQUEST, timeout_s)]


WORD = chunk(FRAMES.content("word"))


@pytest.mark.parametrize(
    ("serve", "kind"),
    [
        (saying(), LLMUnavailableError),
        (saying(b"this is no HTTP\r\n\r\n"), LLMUnavailableError),
        (saying(b"HTTP/1.1 200 OK\r\nno header\r\n\r\n"), LLMUnavailableError),
        (saying(reset=True), LLMUnavailableError),
        (saying(HEAD, WORD), LLMStreamError),
        (saying(HEAD, WORD, reset=True), LLMStreamError),
        (saying(HEAD, WORD, b"0\r\n\r\n"), LLMStreamError),
    ],
)
async def test_a_broken_connection_is_one_of_our_errors(serve: Serve, kind: type[LLMError]) -> None:
    async with client_of(serve) as client:
        with pytest.raises(kind):
            await heard(client)


async def test_what_was_said_before_an_error_is_passed_on_first() -> None:
    error = b'data: {"error": {"message": "Rank 1 died.", "type": "t", "code": "c"}}\n\n'
    at_once = chunk(FRAMES.content("one ") + FRAMES.content("two") + error)
    async with client_of(saying(HEAD, at_once)) as client:
        outputs = client.stream(REQUEST, 10)
        assert await anext(outputs) == Piece("one two", 2)
        with pytest.raises(LLMStreamError, match="Rank 1"):
            await anext(outputs)


async def test_tokens_that_come_at_once_are_one_piece() -> None:
    frames = FRAMES.content("one "), FRAMES.content("two"), FRAMES.finish("stop")
    async with client_of(saying(HEAD, chunk(b"".join(frames) + b"data: [DONE]\n\n"))) as client:
        assert await heard(client) == [Piece("one two", 2), End("stop", None, "mock")]


async def test_a_chunk_that_is_no_http_is_given_up_at_the_deadline_only() -> None:
    # aiohttp 3.14 closes the connection and tells nobody who waits for more of the body.
    async with client_of(saying(HEAD, WORD, then=b"no length\r\n")) as client:
        with pytest.raises(LLMTimeoutError):
            await heard(client, timeout_s=0.3)


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + WORD)
    await reader.read()  # until the client goes


async def test_a_service_that_says_no_more_is_left_at_the_deadline() -> None:
    async with client_of(silent) as client:
        with pytest.raises(LLMTimeoutError):
            await heard(client, timeout_s=0.2)


async def test_no_connection_is_used_twice() -> None:
    peers = set()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.add(writer.get_extra_info("peername"))
        end = chunk(FRAMES.finish("stop") + b"data: [DONE]\n\n")
        writer.write(HEAD + end + b"0\r\n\r\n")

    async with client_of(serve) as client:
        for _ in range(3):
            await heard(client)
    assert len(peers) == 3


async def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(proxy, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        monkeypatch.delenv("no_proxy", raising=False)
        async with aclosing(LLMClient("http://llm.invalid:8000")) as client:
            with pytest.raises(LLMUnavailableError):
                await client.models()

    assert asked == [b"GET http://llm.invalid:8000/v1/models HTTP/1.1\r\n"]


@pytest.mark.parametrize(
    ("name", "proxied"),
    [("http_proxy", True), ("https_proxy", True), ("RAY_SERVE_ENABLE_HA_PROXY", False)],
)
async def test_only_a_proxy_is_looked_for_at_each_request(
    monkeypatch: pytest.MonkeyPatch, name: str, proxied: bool
) -> None:
    for other in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with Transport().get_client() as session:
        assert session.trust_env is proxied
