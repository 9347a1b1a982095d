"""The LLM client against the mock's answers and faults, in process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from contracts import headers
from contracts.errors import Code
from contracts.mock_llm import Fault, MockLLM, MockSettings
from contracts.openai import ChatCompletionRequest, ChatMessage
from rag_graph.errors import (
    LLMError,
    LLMRequestError,
    LLMStreamError,
    LLMTimeoutError,
    LLMUnavailableError,
)
from rag_graph.llm.asgi_transport import StreamingASGITransport
from rag_graph.llm.client import LLMClient
from rag_graph.llm.failures import AT_DEADLINE_S
from rag_graph.llm.transcript import End, Piece

LATE = b'{"error": {"message": "too late", "type": "t", "code": "deadline_exceeded"}}'
REQUEST = ChatCompletionRequest(
    model="mock", messages=[ChatMessage(role="user", content="one two three")]
)


@asynccontextmanager
async def client_of(**settings: Any) -> AsyncIterator[tuple[MockLLM, LLMClient]]:
    mock = MockLLM(MockSettings(**settings))
    client = LLMClient("http://mock/v1/", transport=StreamingASGITransport(mock))
    yield mock, client
    await client.aclose()


async def a_few_turns() -> None:
    """Let the loop run the mock's own tasks and finalisers, without waiting for any time."""
    for _ in range(50):
        await asyncio.sleep(0)


async def collect(client: LLMClient, timeout_s: float = 10.0) -> tuple[str, End]:
    text = ""
    async for output in client.stream(REQUEST, timeout_s):
        if isinstance(output, End):
            return text, output
        text += output.text
    raise AssertionError("no end")


async def test_text_end_and_exact_usage_arrive() -> None:
    async with client_of() as (_, client):
        text, end = await collect(client)
        assert text.endswith("one two three")
        assert (end.finish_reason, end.model) == ("stop", "mock")
        assert end.usage is not None
        assert end.usage.prompt_tokens == 3
        assert [m.id for m in await client.models()] == ["mock"]


@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        (Fault.SERVER_ERROR, LLMUnavailableError, Code.UPSTREAM_ERROR),
        (Fault.RATE_LIMIT, LLMUnavailableError, Code.RATE_LIMITED),
        (Fault.DISCONNECT, LLMStreamError, Code.UPSTREAM_ERROR),
        (Fault.MALFORMED, LLMStreamError, Code.UPSTREAM_ERROR),
        (Fault.STALL, LLMTimeoutError, Code.REQUEST_TIMEOUT),
    ],
)
async def test_every_fault_becomes_one_of_our_errors(
    fault: Fault, kind: type[LLMError], code: str
) -> None:
    async with client_of(fault=fault, retry_after_s=7) as (_, client):
        with pytest.raises(kind) as caught:
            await collect(client, 0.3)
        assert caught.value.code == code
        assert caught.value.retry_after == (7.0 if fault is Fault.RATE_LIMIT else None)


@pytest.mark.parametrize("timeout_s", [0.0, -1.0])
async def test_nothing_is_asked_once_the_deadline_has_passed(timeout_s: float) -> None:
    async with client_of() as (mock, client):
        with pytest.raises(LLMTimeoutError):
            await collect(client, timeout_s)
        assert mock.requests == 0


async def test_a_refused_request_keeps_its_code_and_field() -> None:
    async with client_of(model="other") as (_, client):
        with pytest.raises(LLMRequestError, match="does not exist") as caught:
            await collect(client)
        assert (caught.value.code, caught.value.param) == (Code.MODEL_NOT_FOUND, "model")


async def test_closing_the_stream_closes_the_upstream_request_at_once() -> None:
    async with client_of(tokens_per_s=20, answer_tokens=1000) as (mock, client):
        outputs = client.stream(REQUEST, 60)
        assert isinstance(await anext(outputs), Piece)
        assert mock.active == 1
        await outputs.aclose()
        assert mock.active == 0


async def test_cancelling_the_reader_closes_the_upstream_request() -> None:
    async with client_of(tokens_per_s=20, answer_tokens=1000) as (mock, client):
        reader = asyncio.create_task(collect(client))
        await a_few_turns()
        assert mock.active == 1
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        await a_few_turns()
        assert mock.active == 0


def answering(status: int, body: bytes = b"", **given: str) -> LLMClient:
    def handle(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, content=body, headers=given)

    return LLMClient("http://llm", transport=httpx.MockTransport(handle))


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (401, b"", LLMUnavailableError, "RAG_LLM_API_KEY"),
        (502, b"<html>bad gateway</html>", LLMUnavailableError, "HTTP 502"),
        (503, b"", LLMUnavailableError, "HTTP 503"),
        (504, b"", LLMUnavailableError, "HTTP 504"),
        (504, LATE, LLMTimeoutError, "too late"),
        (422, b"", LLMRequestError, "HTTP 422"),
    ],
)
async def test_a_status_without_our_envelope_is_understood(
    status: int, body: bytes, kind: type[LLMError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        await collect(answering(status, body))


async def test_a_504_at_the_deadline_is_the_deadlines() -> None:
    with pytest.raises(LLMTimeoutError, match="HTTP 504"):
        await collect(answering(504), AT_DEADLINE_S / 2)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "without a reason"),
        (b'data: {"error": {"message": "Rank 1 died.", "type": "t", "code": "c"}}\n\n', "Rank 1"),
        (b"data: [1]\n\n", "not of the contract"),
        (b"data: " + b"x" * (2 << 20), "not of the contract"),
    ],
)
async def test_a_stream_that_is_not_the_contract_is_an_error(body: bytes, words: str) -> None:
    with pytest.raises(LLMStreamError, match=words):
        await collect(answering(200, body))


async def test_an_unreachable_service_is_unavailable() -> None:
    client = LLMClient("http://127.0.0.1:1")
    with pytest.raises(LLMUnavailableError, match="RAG_LLM_URL"):
        await collect(client)
    with pytest.raises(LLMUnavailableError, match="RAG_LLM_URL"):
        await client.models()
    await client.aclose()


async def test_the_deadline_and_headers_travel() -> None:
    seen: list[httpx.Headers] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers)
        return httpx.Response(500)

    client = LLMClient("http://llm", "secret", httpx.MockTransport(handle))
    with pytest.raises(LLMUnavailableError):
        await anext(client.stream(REQUEST, 1.5, {headers.REQUEST_ID: "r1"}))
    assert seen[0][headers.DEADLINE_MS] == "1500"
    assert seen[0][headers.REQUEST_ID] == "r1"
    assert seen[0]["authorization"] == "Bearer secret"
