"""The client against the gateway's real routes, over fakes and connections that break."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import httpx
import pytest

from contracts import sse
from contracts.errors import Code, envelope
from isthmus_client import Answer, Client, RefusedError, UnreachableError
from isthmus_client.client import ATTEMPTS
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
        await client.ask("?", collection="notes", top_k=3, thread_id="t")
        await client.ask("?", retrieval="never")
    asked, alone = fakes.questions
    assert (asked.collection, asked.top_k, asked.thread_id) == ("notes", 3, "t")
    assert alone.retrieval == "never"


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


class Scripted:
    """Answers the GETs of streams with what the test says, one after the other; the last again."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self._answers = list(answers)
        self.asked = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": "isthmus"}]})
        if request.method == "DELETE":
            return httpx.Response(204)
        answer = self._answers[min(self.asked, len(self._answers) - 1)]
        self.asked += 1
        if isinstance(answer, Exception):
            raise answer
        return answer

    def client(self) -> Client:
        return Client("http://gateway", transport=httpx.MockTransport(self))


def streamed(*events: dict[str, object] | str, first: int = 1) -> httpx.Response:
    """A stream of `events` that ends cleanly after them."""
    data = [event if isinstance(event, str) else json.dumps(event) for event in events]
    frames = [sse.encode(one, id=f"chatcmpl-1.{n}") for n, one in enumerate(data, first)]
    return httpx.Response(200, content=b"".join(frames))


def word(text: str, finish_reason: str | None = None) -> dict[str, object]:
    choice = {"delta": {"content": text}, "finish_reason": finish_reason}
    return {"id": "chatcmpl-1", "choices": [choice]}


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the client waited, in which no time passed."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("isthmus_client.patience.asyncio.sleep", sleep)
    return waited


NOBODY = httpx.Response(503, text="<html>No server is available.</html>")


async def test_a_refusal_to_take_an_answer_up_is_waited_out(pauses: list[float]) -> None:
    later = [httpx.Response(503, headers={"retry-after": said}) for said in ("3", "3600", "Tue")]
    rest = streamed(word("two", "stop"), sse.DONE, first=2)
    script = Scripted(streamed(word("one ")), NOBODY, *later, rest)
    async with script.client() as client:
        answer = await client.ask("?")
    assert answer.text == "one two"
    assert pauses == [0.2, 0.4, 3.0, 10.0, 3.2]


async def test_a_refusal_that_stays_is_raised(pauses: list[float]) -> None:
    script = Scripted(streamed(word("one ")), NOBODY)
    async with script.client() as client:
        with pytest.raises(RefusedError, match="HTTP 503"):
            await client.ask("?")
    assert script.asked == ATTEMPTS
    assert len(pauses) == ATTEMPTS - 1


@pytest.mark.parametrize("status", [401, 404])
async def test_a_refusal_that_waiting_does_not_change_is_raised_at_once(
    pauses: list[float], status: int
) -> None:
    script = Scripted(streamed(word("one ")), httpx.Response(status))
    async with script.client() as client:
        with pytest.raises(RefusedError):
            await client.ask("?")
    assert len(pauses) == 1


async def test_a_question_that_is_refused_is_not_asked_again(pauses: list[float]) -> None:
    script = Scripted(NOBODY)
    async with script.client() as client:
        with pytest.raises(RefusedError):
            await client.ask("?")
    assert (script.asked, pauses) == (1, [])


async def test_an_answer_without_its_end_is_no_answer(pauses: list[float]) -> None:
    pieces = [streamed(word(f"w{n} "), first=n) for n in range(1, ATTEMPTS + 1)]
    async with Scripted(*pieces).client() as client:
        with pytest.raises(UnreachableError, match="ended in the middle"):
            await client.ask("?")
    assert len(pauses) == ATTEMPTS - 1


def job(status: str, done: int = 0) -> dict[str, object]:
    facts = {"id": "j1", "name": "a.md", "collection": "default", "error": None}
    return {**facts, "status": status, "chunks_done": done}


async def watched(script: Scripted) -> list[tuple[str, int]]:
    async with script.client() as client:
        return [(one.status, one.chunks_done) async for one in client.watch("j1")]


async def test_a_job_is_watched_over_a_restart_of_the_ingestor(pauses: list[float]) -> None:
    restarting = envelope(Code.NOT_READY, "The ingestor is starting.").model_dump()
    refused = httpx.Response(503, json=restarting, headers={"retry-after": "2"})
    script = Scripted(
        streamed(job("embedding", 1), restarting),
        refused,
        httpx.ReadError("the connection broke"),
        streamed(job("embedding", 2)),
        streamed(job("done", 3)),
    )
    assert await watched(script) == [("embedding", 1), ("embedding", 2), ("done", 3)]
    assert pauses == [0.2, 2.0, 0.8, 0.2]


async def test_a_job_that_cannot_be_watched_any_more_is_told_of(pauses: list[float]) -> None:
    with pytest.raises(RefusedError, match="HTTP 503"):
        await watched(Scripted(streamed(job("embedding")), NOBODY))
    assert sum(pauses) > 40


async def test_a_job_that_there_is_not_is_not_waited_for(pauses: list[float]) -> None:
    absent = envelope(Code.NOT_FOUND, "There is no job 'j1'.").model_dump()
    with pytest.raises(RefusedError, match="no job"):
        await watched(Scripted(httpx.Response(404, json=absent)))
    assert pauses == []


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
