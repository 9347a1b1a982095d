"""The client against the gateway's real routes, over fakes and connections that break."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import httpx
import pytest

from isthmus_client import Answer, Client, RefusedError, UnreachableError
from rag_graph.errors import LLMUnavailableError
from rag_graph.llm.asgi_transport import StreamingASGITransport
from serve_app.api import create_api
from serve_app.auth import Keys
from tests.unit.serve_app.conftest import Fakes

TEXT = "The taint is sku=gpu. [1]"


class Breaking(httpx.AsyncBaseTransport):
    """Breaks streamed responses off after some chunks, a number of times."""

    def __init__(self, inner: httpx.AsyncBaseTransport, after: int, times: int) -> None:
        self._inner, self._after, self.left = inner, after, times
        self.paths: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.paths.append(f"{request.method} {request.url.path}")
        response = await self._inner.handle_async_request(request)
        streamed = response.headers.get("content-type", "").startswith("text/event-stream")
        if self.left and streamed:
            self.left -= 1
            assert isinstance(response.stream, httpx.AsyncByteStream)
            response.stream = _Broken(response.stream, self._after)
        return response


class _Broken(httpx.AsyncByteStream):
    def __init__(self, inner: httpx.AsyncByteStream, after: int) -> None:
        self._inner, self._after = inner, after

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = self._after
        async for chunk in self._inner:
            yield chunk
            left -= 1
            if not left:
                raise httpx.ReadError("the connection broke")

    async def aclose(self) -> None:
        await self._inner.aclose()


@asynccontextmanager
async def connected(
    fakes: Fakes, breaks_after: int = 0, times: int = 0
) -> AsyncIterator[tuple[Client, Breaking]]:
    services = fakes.services(Keys(()))
    transport = Breaking(StreamingASGITransport(create_api(services)), breaks_after, times)
    async with Client("http://gateway", transport=transport) as client:
        yield client, transport
    await services.opinions.aclose()
    await fakes.memory.aclose()


async def test_an_answer_streams_and_is_whole_at_the_end() -> None:
    async with connected(Fakes()) as (client, _):
        pieces = [piece async for piece in client.stream("Which taint?")]
        whole = await client.ask("Which taint?")
    *text, answer = pieces
    assert isinstance(answer, Answer)
    assert "".join(str(piece) for piece in text) == answer.text == whole.text == TEXT
    assert answer.citations[0].quote == "sku=gpu."
    assert answer.citations[0].passage == "The taint is sku=gpu."
    assert answer.usage is not None
    assert answer.usage.total_tokens == 10
    assert answer.info["llm_model"] == "tiny"


async def test_every_argument_reaches_the_question() -> None:
    fakes = Fakes()
    async with connected(fakes) as (client, _):
        await client.ask("?", collection="notes", top_k=3, thread_id="t", retrieval="never")
    (asked,) = fakes.questions
    assert (asked.collection, asked.top_k, asked.thread_id) == ("notes", 3, "t")
    assert asked.retrieval == "never"


async def test_an_answer_is_taken_up_where_its_connection_broke() -> None:
    fakes = Fakes()
    async with connected(fakes, breaks_after=2, times=2) as (client, transport):
        answer = await client.ask("Which taint?")
    assert answer.text == TEXT
    assert len(fakes.questions) == 1, "it was asked once"
    assert transport.paths.count("GET /v1/chat/completions/events") == 2


async def test_a_connection_that_does_not_come_back_is_told_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("isthmus_client.client.FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr("isthmus_client.client.ATTEMPTS", 2)
    async with connected(Fakes(), breaks_after=1, times=9) as (client, _):
        with pytest.raises(UnreachableError, match="broke off"):
            await client.ask("Which taint?")


async def test_closing_the_stream_stops_the_work() -> None:
    fakes = Fakes(tokens=("word ",) * 1000)
    async with connected(fakes) as (client, transport):
        async with aclosing(client.stream("?")) as pieces:
            await anext(pieces)
        assert transport.paths[-1].startswith("DELETE /v1/chat/completions/chatcmpl-")
        async with asyncio.timeout(5):
            while not fakes.closed:  # noqa: ASYNC110 - the fakes have no event
                await asyncio.sleep(0)


async def test_refusals_carry_what_was_found() -> None:
    down = LLMUnavailableError("The LLM service is down.")
    async with connected(Fakes(fails_after=0, failure=down)) as (client, _):
        with pytest.raises(RefusedError) as refused:
            await client.ask("?")
    assert (refused.value.status, refused.value.code) == (503, "not_ready")
    assert refused.value.retry_after is not None
    assert refused.value.passages[0]["source"] == "docs/pools.md"


async def test_an_error_in_the_middle_is_raised() -> None:
    down = LLMUnavailableError("The LLM service is down.")
    async with connected(Fakes(fails_after=1, failure=down)) as (client, _):
        with pytest.raises(RefusedError, match="is down"):
            await client.ask("?")


async def test_no_gateway_is_told_of() -> None:
    async with Client("http://127.0.0.1:9") as client:
        with pytest.raises(UnreachableError, match="There is no gateway at"):
            await client.models()


async def test_the_other_routes() -> None:
    async with connected(Fakes()) as (client, _):
        assert await client.model() == "isthmus"
        (passage,) = await client.search("taint", top_k=1)
        assert passage.text == "The taint is sku=gpu."
        assert "default" in await client.collections()
        assert await client.threads() == []
        await client.rate("chatcmpl-1", "up", "Good.")
        with pytest.raises(RefusedError) as refused:
            await client.delete_thread("absent")
    assert refused.value.status == 404
