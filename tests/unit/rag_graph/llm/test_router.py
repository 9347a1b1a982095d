"""Models of a table: who is asked while one fails, and after it has healed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest

from contracts.mock_llm import Fault, MockLLM, MockSettings
from contracts.openai import ChatCompletionRequest, ChatMessage
from rag_graph import calls, routing
from rag_graph.calls import Services
from rag_graph.errors import LLMUnavailableError
from rag_graph.llm import attempt as attempt_module
from rag_graph.llm import pool as pool_module
from rag_graph.llm.asgi_transport import StreamingASGITransport
from rag_graph.llm.client import LLMClient
from rag_graph.llm.endpoint import OPEN_S
from rag_graph.llm.pool import LLMPool
from rag_graph.llm.router import ModelRouter
from rag_graph.llm.transcript import Output
from rag_graph.routing import Decision, ModelEntry, Wanted
from rag_graph.settings import RagSettings
from rag_graph.state import Passage, Question, SearchQuery

CHEAP, DEAR = ModelEntry(name="cheap", input_price=1), ModelEntry(name="dear", input_price=9)


class Clock:
    """The event loop's time, which the test can put forward."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = 0.0
        for module in (pool_module, attempt_module):
            monkeypatch.setattr(module, "_now", self)

    def __call__(self) -> float:
        return asyncio.get_running_loop().time() + self.ahead


def router(first_token_timeout_s: float = 30.0, **mocks: MockLLM) -> ModelRouter:
    def pool(app: MockLLM) -> LLMPool:
        client = LLMClient("http://mock", transport=StreamingASGITransport(app))
        return LLMPool([[client]], first_token_timeout_s)

    return ModelRouter((CHEAP, DEAR), {name: pool(app) for name, app in mocks.items()})


def mock(model: str, **settings: Any) -> MockLLM:
    return MockLLM(MockSettings(model=model, **settings))


def first(llm: ModelRouter) -> str:
    """Return the model that a question would be sent to."""
    return routing.decide(llm.table, Wanted("lookup", 10, 10), llm.healthy).chain[0].name


def stream(llm: ModelRouter, model: str) -> AsyncGenerator[Output, None]:
    said = [ChatMessage(role="user", content="one two")]
    return llm.stream(ChatCompletionRequest(model=model, messages=said), 10.0)


async def ask(llm: ModelRouter, model: str) -> None:
    async for _ in stream(llm, model):
        pass


async def test_a_model_that_failed_is_asked_first_again_once_its_time_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, cheap = Clock(monkeypatch), mock("cheap", fault=Fault.SERVER_ERROR)
    llm = router(cheap=cheap, dear=mock("dear"))
    with pytest.raises(LLMUnavailableError):
        await ask(llm, "cheap")
    assert first(llm) == "dear"
    clock.ahead += OPEN_S
    assert first(llm) == "cheap"
    with pytest.raises(LLMUnavailableError):
        await ask(llm, "cheap")
    assert first(llm) == "dear", "it was asked, and failed again"
    cheap.settings = MockSettings(model="cheap")
    clock.ahead += OPEN_S
    await ask(llm, first(llm))
    assert first(llm) == "cheap"


async def test_one_request_finds_out_whether_it_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    cheap = mock("cheap", fault=Fault.SERVER_ERROR)
    llm = router(cheap=cheap, dear=mock("dear"))
    with pytest.raises(LLMUnavailableError):
        await ask(llm, "cheap")
    clock.ahead += OPEN_S
    cheap.settings = MockSettings(model="cheap")
    async with aclosing(stream(llm, first(llm))) as outputs:
        await anext(outputs)
        assert first(llm) == "dear", "until that one has its answer"
        async for _ in outputs:
            pass
    assert first(llm) == "cheap"


async def test_the_next_model_answers_for_one_that_says_nothing() -> None:
    hung = mock("cheap", fault=Fault.STALL, fault_after_tokens=0)
    slow = mock("dear", time_to_first_token_s=0.2)
    llm = router(0.05, cheap=hung, dear=slow)
    services, question = Services(no_search, llm, RagSettings()), Question("one two")
    said = [ChatMessage(role="user", content="one two")]
    request = ChatCompletionRequest(model="any", messages=said)
    deadline = asyncio.get_running_loop().time() + 10
    outputs = calls.stream(services, question, Decision((CHEAP, DEAR), ""), request, deadline)
    assert {entry.name async for entry, _ in outputs} == {"dear"}
    assert (hung.requests, slow.requests) == (1, 1), "the last of them is waited for"


async def no_search(_: SearchQuery) -> list[Passage]:
    return []


async def test_a_slow_model_is_waited_for_while_the_others_are_down() -> None:
    slow = mock("cheap", time_to_first_token_s=0.2)
    llm = router(0.05, cheap=slow, dear=mock("dear", fault=Fault.SERVER_ERROR))
    while llm.healthy("dear"):
        with pytest.raises(LLMUnavailableError):
            await ask(llm, "dear")
    services, question = Services(no_search, llm, RagSettings()), Question("one two")
    said = ChatCompletionRequest(
        model="any", messages=[ChatMessage(role="user", content="one two")]
    )
    deadline = asyncio.get_running_loop().time() + 10
    decision = Decision((CHEAP, DEAR), "test")
    async with aclosing(calls.stream(services, question, decision, said, deadline)) as outputs:
        assert {entry.name async for entry, _ in outputs} == {"cheap"}
    assert slow.requests == 1


async def test_a_model_of_the_table_is_known_while_it_is_down() -> None:
    llm = router(cheap=mock("cheap", fault=Fault.SERVER_ERROR), dear=mock("dear"))
    assert [await llm.has(name) for name in ("cheap", "dear", "other")] == [True, True, False]
