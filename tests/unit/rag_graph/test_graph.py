"""The graph end to end, over the mock LLM in process."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import pytest

from contracts.mock_llm import Fault, MockLLM, MockSettings
from contracts.openai import ChatCompletionRequest, ChatMessage, Model
from rag_graph.errors import LLMTimeoutError, LLMUnavailableError, StoreError
from rag_graph.graph import RagGraph, build
from rag_graph.llm.asgi_transport import StreamingASGITransport
from rag_graph.llm.client import LLMClient
from rag_graph.llm.transcript import End, Output, Piece
from rag_graph.nodes import NOT_FOUND
from rag_graph.settings import RagSettings
from rag_graph.state import Answered, Event, Passage, Question, Retrieved, SearchQuery, Token
from tests.support.processes import ROOT
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
    assert last.metadata["abstained"]
    assert house.mock.requests == 0


async def test_passages_about_something_else_are_shown_but_not_answered_from() -> None:
    far = [passage("Bananas grow in warm places.", 1, similarity=0.2)]
    house = House(far)
    events = await house.ask()
    assert events[0] == Retrieved(tuple(far))
    last = answered(events)
    assert (last.text, last.citations) == (NOT_FOUND, ())
    assert last.metadata["evidence"] == 0.2
    assert house.mock.requests == 0
    near = House([passage("The GPU pools carry a taint.", 1, similarity=0.2)])
    assert not answered(await near.ask()).metadata["abstained"]


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


TURNS = (
    ChatMessage(role="user", content="Tell me of the GPU pools."),
    ChatMessage(role="assistant", content="They are costly."),
)


class Script(LLMClient):
    """An LLM that says what it was told to, and remembers what it was asked."""

    def __init__(self, *replies: str) -> None:
        super().__init__("http://script")
        self.replies = list(replies)
        self.asked: list[ChatCompletionRequest] = []

    async def models(self) -> list[Model]:
        return [Model(id="script", created=0, owned_by="test")]

    async def stream(
        self,
        request: ChatCompletionRequest,
        timeout_s: float,
        extra_headers: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[Output, None]:
        self.asked.append(request)
        yield Piece(self.replies.pop(0))
        yield End("stop", None, "script")


def scripted(*replies: str, **settings: Any) -> tuple[House, Script]:
    house, llm = House(), Script(*replies)
    house.graph = RagGraph(house._search, llm, RagSettings(**settings))
    return house, llm


async def test_a_follow_up_is_searched_for_as_a_question_of_its_own() -> None:
    house, llm = scripted("Which taint do the GPU pools carry?", "sku [1].")
    last = answered(await house.ask("Which taint?", history=TURNS))
    assert [query.text for query in house.queries] == [TAINT]
    assert last.metadata["standalone_question"] == TAINT
    assert [message.text for message in llm.asked[1].messages[1:]] == [
        *(turn.text for turn in TURNS),
        "Which taint?",
    ]


async def test_a_useless_rewrite_is_not_believed() -> None:
    house, _ = scripted("Bananas!", "sku [1].")
    await house.ask("Which taint?", history=TURNS)
    assert [query.text for query in house.queries] == ["Tell me of the GPU pools. Which taint?"]


async def test_a_first_question_is_not_rewritten() -> None:
    house, llm = scripted("sku [1].")
    await house.ask(history=(ChatMessage(role="system", content="Be brief."),))
    assert len(llm.asked) == 1
    assert [query.text for query in house.queries] == [TAINT]


async def test_a_multi_hop_question_is_taken_apart_and_its_parts_are_searched() -> None:
    question = "Which taint do the GPU pools carry and how does Ray Serve scale replicas?"
    listing = "1. Which taint do the GPU pools carry?\n- How does Ray Serve scale?\nOops"
    house, _ = scripted(listing, "sku [1], by requests [2].")
    last = answered(await house.ask(question))
    expected = [question, TAINT, "How does Ray Serve scale?"]
    assert [query.text for query in house.queries] == last.metadata["queries"] == expected
    assert [citation.number for citation in last.citations] == [1, 2]
    assert len({c.chunk_id for c in last.citations}) == 2


async def test_an_answer_without_a_search_keeps_what_looks_like_markers() -> None:
    code = "print(sys.argv[1], rows[0])"
    house, _ = scripted(code)
    last = answered(await house.ask("Print the first argument.", retrieval="never"))
    assert (last.text, last.citations) == (code, ())
    assert last.metadata["removed_markers"] == 0


async def test_splitting_can_be_switched_off() -> None:
    house, llm = scripted("x [1].", max_parts=0)
    await house.ask("Compare the GPU pools and Ray Serve?")
    assert len(llm.asked) == len(house.queries) == 1


async def test_all_calls_share_one_deadline() -> None:
    house = House(fault=Fault.STALL, fault_after_tokens=1)
    with pytest.raises(LLMTimeoutError):
        await house.ask("Which taint?", history=TURNS, timeout_s=0.2)


def test_the_drawing_in_the_docs_is_the_graph() -> None:
    text = (ROOT / "docs/retrieval.md").read_text(encoding="utf-8")
    drawn = set(re.findall(r"^    (\w+) (?:-->|-\.->) (\w+)$", text, re.MULTILINE))
    edges = {(e.source.strip("_"), e.target.strip("_")) for e in build().get_graph().edges}
    assert drawn == edges


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


async def test_an_answer_that_repeats_itself_is_stopped_and_seen_once() -> None:
    house = House(tokens_per_s=200, repeat=True)
    events = await house.ask(max_tokens=5000)
    last = answered(events)
    assert last.text == "".join(event.text for event in events if isinstance(event, Token))
    assert last.text.count("sku=gpu:NoSchedule") == 1
    assert (last.finish_reason, last.metadata["repetition_stopped"]) == ("stop", True)
    assert last.metadata["tokens"]["completion"] < 100
    assert house.mock.active == 0
    assert not answered(await House().ask()).metadata["repetition_stopped"]


GREETED = (ChatMessage(role="user", content="Hi"), ChatMessage(role="assistant", content="Hello."))


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        (TAINT, {"retrieval": "never", "history": GREETED}),
        ("Thanks a lot!", {"history": GREETED}),
        ("Please translate your answer into German.", {"history": GREETED}),
        ("hello there", {}),
    ],
)
async def test_some_questions_need_no_documents(text: str, fields: dict[str, Any]) -> None:
    house = House()
    events = await house.ask(text, **fields)
    last = answered(events)
    assert events[0] == Retrieved(())
    assert (house.queries, last.citations, last.metadata["route"]) == ([], (), "conversation")
    assert last.metadata["evidence"] is None
    assert house.mock.requests == 1  # a follow-up that is not searched for is not rewritten


@pytest.mark.parametrize(
    ("text", "retrieval"),
    [
        ("hello", "always"),
        ("What does hello mean?", "auto"),
        ("Thanks. Which taint do they carry?", "auto"),
        ("Translate that.", "auto"),  # of nothing
    ],
)
async def test_other_questions_are_searched_for(text: str, retrieval: Any) -> None:
    house = House()
    await house.ask(text, retrieval=retrieval)
    assert [query.text for query in house.queries] == [text]


async def test_the_model_is_asked_for_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    class Counting(LLMClient):
        async def models(self) -> list[Model]:
            nonlocal asked
            asked += 1
            return await super().models()

    client = Counting("http://mock", transport=StreamingASGITransport(MockLLM()))

    async def search(_: SearchQuery) -> list[Passage]:
        return PASSAGES

    graph = RagGraph(search, client, RagSettings())
    for _ in range(3):
        assert [event async for event in graph.answer(Question(TAINT))]
    assert asked == 1
    monkeypatch.setattr("rag_graph.calls.REMEMBERED_S", -1.0)
    graph = RagGraph(search, client, RagSettings())
    for _ in range(3):
        assert [event async for event in graph.answer(Question(TAINT))]
    assert asked == 4
