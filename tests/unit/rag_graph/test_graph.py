"""The graph end to end, over the mock LLM in process."""

from __future__ import annotations

from typing import Any

import pytest

from contracts.mock_llm import Fault, MockLLM, MockSettings
from contracts.openai import ChatMessage
from rag_graph.errors import LLMUnavailableError, StoreError
from rag_graph.graph import RagGraph
from rag_graph.llm.asgi_transport import StreamingASGITransport
from rag_graph.llm.client import LLMClient
from rag_graph.nodes import NOT_FOUND
from rag_graph.settings import RagSettings
from rag_graph.state import Answered, Event, Passage, Question, Retrieved, SearchQuery, Token
from tests.support.rag import passage

PASSAGES = [
    passage("Ray Serve scales replicas. They run on CPU.", 2),
    passage("The GPU pools carry the taint sku=gpu:NoSchedule. It keeps others away.", 1),
]
TAINT = "Which taint do the GPU pools carry?"


class House:
    """A graph whose search is a list and whose LLM is the mock."""

    def __init__(self, passages: list[Passage] | None = None, **mock: Any) -> None:
        self.mock = MockLLM(MockSettings(**mock))
        self.passages = PASSAGES if passages is None else passages
        self.queries: list[SearchQuery] = []
        client = LLMClient("http://mock", transport=StreamingASGITransport(self.mock))
        self.graph = RagGraph(self._search, client, RagSettings())

    async def _search(self, query: SearchQuery) -> list[Passage]:
        self.queries.append(query)
        return self.passages

    async def ask(self, text: str = TAINT, **fields: Any) -> list[Event]:
        return [event async for event in self.graph.answer(Question(text, **fields))]


def answered(events: list[Event]) -> Answered:
    assert isinstance(events[-1], Answered)
    return events[-1]


async def test_an_answer_streams_and_cites_what_it_rests_on() -> None:
    events = await House().ask()
    assert isinstance(events[0], Retrieved)
    tokens = [event.text for event in events if isinstance(event, Token)]
    last = answered(events)
    assert last.text == "".join(tokens)
    assert len(tokens) > 3
    assert last.text.startswith("The GPU pools carry the taint sku=gpu:NoSchedule.")
    (citation,) = last.citations
    assert (citation.source, citation.origin) == ("docs/1.md", "model")
    assert citation.quote == "The GPU pools carry the taint sku=gpu:NoSchedule."
    assert last.usage is not None
    assert last.model == "mock"


async def test_no_passages_is_said_plainly_and_no_model_is_asked() -> None:
    house = House([])
    last = answered(await house.ask())
    assert last.text == NOT_FOUND
    assert last.citations == ()
    assert house.mock.requests == 0


async def test_the_questions_limits_reach_the_model() -> None:
    last = answered(await House().ask(max_tokens=2))
    assert last.finish_reason == "length"
    assert last.usage is not None
    assert last.usage.completion_tokens == 2
    assert answered(await House().ask(stop=("taint",))).text == "The GPU pools carry the "


async def test_the_search_gets_the_questions_scope() -> None:
    house = House()
    await house.ask(collection="infra", top_k=3, filters={"title": "x"})
    assert house.queries == [SearchQuery(TAINT, "infra", 3, {"title": "x"})]


async def test_history_is_sent() -> None:
    house = House()
    turns = (ChatMessage(role="user", content="a b"), ChatMessage(role="assistant", content="c"))
    alone = answered(await house.ask()).usage
    told = answered(await house.ask(history=turns)).usage
    assert alone is not None
    assert told is not None
    assert told.prompt_tokens == alone.prompt_tokens + 3


async def test_failures_are_raised_as_our_errors() -> None:
    with pytest.raises(LLMUnavailableError):
        await House(fault=Fault.SERVER_ERROR).ask()

    async def broken(_: SearchQuery) -> list[Passage]:
        raise StoreError("The disk is gone.")

    graph = RagGraph(broken, LLMClient("http://x"), RagSettings())
    with pytest.raises(StoreError, match="disk is gone"):
        await anext(graph.answer(Question("x")))


async def test_closing_the_stream_frees_the_model() -> None:
    house = House(tokens_per_s=20, answer_tokens=1000)
    events = house.graph.answer(Question(TAINT, max_tokens=1000))
    async for event in events:
        if isinstance(event, Token):
            break
    assert house.mock.active == 1
    await events.aclose()
    assert house.mock.active == 0
