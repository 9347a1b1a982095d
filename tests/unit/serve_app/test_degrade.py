"""Answers when a part does not work, by setting, and questions held while the model loads."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from contracts.mock_llm import MockLLM, MockSettings
from contracts.sse import Decoder
from rag_graph.errors import LLMUnavailableError, StoreError
from rag_graph.graph import RagGraph
from rag_graph.llm.asgi_transport import StreamingASGITransport
from rag_graph.llm.client import LLMClient
from rag_graph.settings import RagSettings
from serve_app import held
from serve_app.admission import Admission
from serve_app.api import create_api
from serve_app.auth import Keys
from serve_app.services import Services
from serve_app.settings import ServeSettings
from tests.unit.serve_app.conftest import PASSAGE, Fakes

ASK: dict[str, Any] = {
    "model": "isthmus",
    "messages": [{"role": "user", "content": "Which taint?"}],
}
DOWN = LLMUnavailableError("The LLM is down.")


@asynccontextmanager
async def gateway(
    fakes: Fakes,
    mock: MockLLM | None = None,
    admission: Admission | None = None,
    **settings: Any,
) -> AsyncIterator[httpx.AsyncClient]:
    """The routes over fakes; over the real graph and `mock` if that is given."""
    made = fakes.services(Keys(()))
    changed = {**vars(made), "serve": ServeSettings(**settings)}
    if mock is not None:
        llm = LLMClient("http://mock", transport=StreamingASGITransport(mock))
        rag = RagSettings(min_evidence=0)
        changed |= {"llm": llm, "answer": RagGraph(fakes.search, llm, rag).answer}
    services = Services(**changed | ({"admission": admission} if admission else {}))
    transport = httpx.ASGITransport(create_api(services))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client
    await fakes.memory.aclose()


async def ask(client: httpx.AsyncClient, **changes: Any) -> httpx.Response:
    return await client.post("/v1/chat/completions", json={**ASK, **changes})


async def test_without_a_model_the_passages_answer_if_so_set() -> None:
    fakes = Fakes(fails_after=0, failure=DOWN)
    async with gateway(fakes, on_llm_failure="passages") as client:
        answer = await ask(client)
        streamed = await ask(client, stream=True)
    assert answer.status_code == 200
    body = answer.json()
    assert body["choices"][0]["message"]["content"].endswith(f"{PASSAGE.text} [1]")
    assert body["citations"][0]["quote"] == PASSAGE.text
    assert (body["isthmus"]["degraded"], body["isthmus"]["grounded"]) == (True, True)
    assert "The LLM is down." in body["isthmus"]["reason"]
    assert '"degraded": true' in streamed.text
    assert streamed.text.endswith("data: [DONE]\n\n")


async def test_otherwise_they_come_with_a_503() -> None:
    async with gateway(Fakes(fails_after=0, failure=DOWN)) as client:
        answer = await ask(client)
    assert (answer.status_code, answer.json()["degraded"]) == (503, True)
    assert answer.json()["passages"][0]["text"] == PASSAGE.text


async def test_after_a_token_nothing_replaces_the_answer() -> None:
    fakes = Fakes(fails_after=1, failure=DOWN)
    async with gateway(fakes, on_llm_failure="passages") as client:
        streamed = await ask(client, stream=True)
    assert '"error"' in streamed.text
    assert "passages were found" not in streamed.text


async def test_without_retrieval_the_model_answers_alone_if_so_set() -> None:
    fakes = Fakes(search_failure=StoreError("The store is gone."))
    async with gateway(fakes, on_retrieval_failure="answer") as client:
        answer = await ask(client, max_tokens=3)
    assert answer.status_code == 200
    body = answer.json()
    assert body["choices"][0]["message"]["content"]
    assert body["usage"]["completion_tokens"] == 3
    assert (body["isthmus"]["degraded"], body["isthmus"]["grounded"]) == (True, False)
    assert body["citations"] == []
    async with gateway(Fakes(search_failure=StoreError("The store is gone."))) as client:
        assert (await ask(client)).status_code == 503


def frames(response: httpx.Response) -> list[dict[str, Any]]:
    events = list(Decoder().feed(response.content))
    assert events[-1].data == "[DONE]", events[-1]
    return [json.loads(event.data) for event in events[:-1]]


def starting_mock() -> MockLLM:
    """Return a mock whose start is over after 50 looks at the clock, however long they take."""
    looks = itertools.count()
    return MockLLM(MockSettings(start_s=50), lambda: next(looks))


async def test_a_streamed_question_waits_for_a_model_that_loads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(held, "LOOK_EVERY_S", 0.01)
    fakes, mock = Fakes(), starting_mock()
    async with gateway(fakes, mock) as client:
        whole = await ask(client)
        streamed = await ask(client, stream=True)
    assert whole.status_code == 503, "one that is not streamed is not held"
    seen = frames(streamed)
    steps = [
        f["isthmus"]["starting"]["percent"] for f in seen if "starting" in f.get("isthmus", {})
    ]
    assert steps == sorted(steps)
    assert len(steps) > 2
    assert steps[-1] == 100
    text = "".join(f["choices"][0]["delta"].get("content", "") for f in seen)
    assert text == "The taint is sku=gpu. [1]"
    assert seen[-1]["citations"][0]["passage"] == PASSAGE.text


async def test_holding_goes_before_degrading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "LOOK_EVERY_S", 0.01)
    mock = starting_mock()
    async with gateway(Fakes(), mock, on_llm_failure="passages") as client:
        streamed = await ask(client, stream=True)
        assert "passages were found" not in streamed.text
        assert "isthmus_gateway_degraded_total 0.0" in (await client.get("/metrics")).text


async def test_a_full_queue_is_no_failure_of_retrieval() -> None:
    full = Admission(ceiling=1, max_waiting=0, max_wait_s=1)
    busy = gateway(Fakes(), None, full, on_retrieval_failure="answer")
    async with busy as client, full.admit("other", 1, 1):
        refused = await ask(client)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limited")


async def test_no_more_are_held_than_set() -> None:
    mock = MockLLM(MockSettings(start_s=100))
    async with gateway(Fakes(), mock, max_held=0) as client:
        refused = await ask(client, stream=True)
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
