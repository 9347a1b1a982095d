"""The graph over a real store and mock LLMs on sockets, with the faults that LLMs have."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from contracts.mock_llm import Fault, MockLLM, MockSettings
from contracts.openai import ChatMessage
from rag_graph import routing
from rag_graph.errors import (
    LLMError,
    LLMRequestError,
    LLMStreamError,
    LLMTimeoutError,
    LLMUnavailableError,
    ModelTableError,
)
from rag_graph.graph import RagGraph
from rag_graph.ingest.pipeline import Ingestor
from rag_graph.llm.router import ModelRouter
from rag_graph.nodes import NOT_FOUND
from rag_graph.retrieval.embedder import Embedders
from rag_graph.retrieval.retriever import Retriever
from rag_graph.retrieval.store import Store
from rag_graph.settings import RagSettings
from rag_graph.state import Answered, Event, Question, Retrieved, Token
from tests.support.mock import serve
from tests.support.processes import wait_for
from tests.support.rag import FakeEmbedder

DOCUMENTS = {
    "pools.md": "# GPU pools\n\nThe GPU pools carry the taint sku=gpu:NoSchedule.",
    "ray.md": "# Ray\n\nRay Serve replicas run on CPU nodes only.",
    "storage.md": "# Storage\n\nModel weights live on Azure Files.",
}
TAINT = "Which taint do the GPU pools carry?"
BOTH = "Which taint do the GPU pools carry and where do model weights live?"
TURNS = (
    ChatMessage(role="user", content="Tell me about the GPU pools."),
    ChatMessage(role="assistant", content="They are costly."),
)


@dataclass
class House:
    """A store with three documents, and the models `small` and `large` on sockets."""

    retriever: Retriever
    router: ModelRouter
    settings: RagSettings
    mocks: dict[str, MockLLM] = field(default_factory=dict)

    def fault(self, name: str, fault: Fault | None, **more: Any) -> None:
        self.mocks[name].settings = MockSettings(model=name, fault=fault, **more)

    def asked(self) -> dict[str, int]:
        return {name: mock.requests for name, mock in self.mocks.items()}

    async def events(self, text: str, **fields: Any) -> list[Event]:
        graph = RagGraph(self.retriever.search, self.router, self.settings)
        return [event async for event in graph.answer(Question(text, **fields))]

    async def broken_off(self, text: str, **fields: Any) -> tuple[list[Event], LLMError]:
        """Return what came until the answer failed, and how it failed."""
        graph = RagGraph(self.retriever.search, self.router, self.settings)
        events: list[Event] = []
        try:
            async for event in graph.answer(Question(text, **fields)):
                events += [event]
        except LLMError as error:
            return events, error
        raise AssertionError(f"it did not fail: {events}")

    async def ask(self, text: str, **fields: Any) -> Answered:
        last = (await self.events(text, **fields))[-1]
        assert isinstance(last, Answered)
        return last


def table(*urls: str) -> str:
    small, large = urls
    return f"""
[[models]]
name = "small"
urls = ["{small}"]
context_tokens = 2000
input_price = 1.0
output_price = 2.0
strengths = ["rewrite", "lookup"]

[[models]]
name = "large"
urls = ["{large}"]
input_price = 10.0
output_price = 20.0
strengths = ["multi_hop"]
"""


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    models = tmp_path / "models.toml"
    settings = RagSettings(
        store_uri=str(tmp_path / "store"),
        cache_dir=tmp_path,
        models_file=models,
        min_evidence=0.4,
        top_k=2,
    )
    embedders = Embedders([FakeEmbedder()])
    store = await Store.open(settings)
    ingestor = Ingestor(store, embedders, settings)
    for name, text in DOCUMENTS.items():
        await ingestor.ingest(name, text.encode())
    await ingestor.aclose()
    async with AsyncExitStack() as stack:
        mocks, urls = {}, []
        for name in ("small", "large"):
            mocks[name], client = await stack.enter_async_context(serve(model=name))
            urls.append(str(client.base_url))
        models.write_text(table(*urls))
        router = ModelRouter.open(routing.load(models), settings)
        stack.push_async_callback(router.aclose)
        yield House(Retriever(store, embedders, settings), router, settings, mocks)


async def test_a_follow_up_is_understood(house: House) -> None:
    last = await house.ask("Which taint do they carry?", history=TURNS)
    assert "sku=gpu:NoSchedule" in last.text
    assert last.citations[0].source == "pools.md"
    found = last.metadata
    assert found["standalone_question"].startswith("Tell me about the GPU pools")
    assert (found["llm_calls"], found["unaided"]) == (2, [])
    assert {"contextualize", "retrieve", "generate"} <= set(found["timings_ms"])


@pytest.mark.parametrize(
    "fault", [Fault.SERVER_ERROR, Fault.DISCONNECT, Fault.MALFORMED, Fault.RATE_LIMIT]
)
async def test_passages_of_a_follow_up_come_without_any_model(house: House, fault: Fault) -> None:
    """Nobody rewrites the question; the turn before helps to find the passage."""
    for name in house.mocks:
        house.fault(name, fault, retry_after_s=30, fault_after_tokens=1)
    events, error = await house.broken_off("Which taint do they carry?", history=TURNS)
    assert isinstance(error, (LLMUnavailableError, LLMStreamError))
    assert isinstance(events[0], Retrieved)
    assert events[0].passages[0].source == "pools.md"


async def test_a_follow_up_that_nobody_rewrites_is_answered(house: House) -> None:
    house.fault("small", Fault.MALFORMED, fault_after_tokens=1, fault_requests=1)
    last = await house.ask("Which taint do they carry?", history=TURNS)
    assert "sku=gpu:NoSchedule" in last.text
    assert last.metadata["unaided"] == ["contextualize"]


async def test_each_task_goes_to_the_model_that_is_strong_at_it(house: House) -> None:
    lookup = (await house.ask(TAINT)).metadata
    assert (lookup["route"], lookup["model"]) == ("lookup", "small")
    assert lookup["reason"] == "strong at lookup"
    multi = (await house.ask(BOTH)).metadata
    assert (multi["route"], multi["model"]) == ("multi_hop", "large")
    named = (await house.ask(TAINT, model="large")).metadata
    assert (named["model"], named["reason"]) == ("large", "asked for by name")
    long = (await house.ask(TAINT + " " + "x" * 6000)).metadata
    assert long["model"] == "large"


async def test_cost_is_what_the_calls_took(house: House) -> None:
    found = (await house.ask(TAINT)).metadata
    tokens = found["tokens"]
    assert tokens["completion"] > 0
    assert found["cost"] == pytest.approx((tokens["prompt"] + 2 * tokens["completion"]) / 1e6)
    assert found["llm_calls"] == 1


async def test_an_unknown_model_is_refused(house: House) -> None:
    with pytest.raises(LLMRequestError, match="there are: small, large"):
        await house.ask(TAINT, model="huge")


@pytest.mark.parametrize("fault", [Fault.SERVER_ERROR, Fault.RATE_LIMIT, Fault.DISCONNECT])
async def test_the_next_model_takes_over_before_the_first_token(house: House, fault: Fault) -> None:
    house.fault("small", fault, fault_after_tokens=0, retry_after_s=30)
    last = await house.ask(TAINT)
    assert "sku=gpu:NoSchedule" in last.text
    assert (last.metadata["model"], last.metadata["failed_over"]) == ("large", ["small"])


async def test_a_model_that_failed_is_not_asked_first_again(house: House) -> None:
    house.fault("small", Fault.RATE_LIMIT, retry_after_s=30)
    await house.ask(TAINT)
    before = house.asked()["small"]
    found = (await house.ask(TAINT)).metadata
    assert house.asked()["small"] == before
    assert (found["model"], found["failed_over"]) == ("large", [])
    assert found["reason"].endswith("down now: small")


async def test_nobody_takes_over_in_mid_answer(house: House) -> None:
    house.fault("small", Fault.DISCONNECT, fault_after_tokens=3)
    events, error = await house.broken_off(TAINT)
    assert isinstance(error, LLMStreamError)
    assert any(isinstance(event, Token) for event in events)
    assert house.asked()["large"] == 0


async def test_a_model_that_goes_round_in_circles_is_stopped(house: House) -> None:
    house.mocks["small"].settings = MockSettings(model="small", repeat=True, tokens_per_s=100)
    last = await house.ask(TAINT, max_tokens=1000)
    assert last.text.count("sku=gpu:NoSchedule") == 1
    assert last.citations[0].source == "pools.md"
    assert last.metadata["repetition_stopped"]
    await asyncio.to_thread(
        wait_for, lambda: house.mocks["small"].active == 0, 2, "the model is told to stop"
    )


async def test_a_model_that_stalls_meets_the_deadline(house: House) -> None:
    house.fault("small", Fault.STALL)
    with pytest.raises(LLMTimeoutError):
        await house.ask(TAINT, timeout_s=0.5)


async def test_what_the_documents_do_not_say_is_not_asked_of_a_model(house: House) -> None:
    events = await house.events("Who won the chess championship of 1951?")
    assert isinstance(events[0], Retrieved)
    last = events[-1]
    assert isinstance(last, Answered)
    assert (last.text, last.citations) == (NOT_FOUND, ())
    assert (last.metadata["route"], last.metadata["model"]) == ("abstain", None)
    assert last.metadata["cost"] == 0
    assert house.asked() == {"small": 0, "large": 0}


async def test_a_multi_hop_question_is_looked_up_in_parts(house: House) -> None:
    events = await house.events(BOTH)
    assert isinstance(events[0], Retrieved)
    assert {p.source for p in events[0].passages} >= {"pools.md", "storage.md"}
    last = events[-1]
    assert isinstance(last, Answered)
    assert last.metadata["queries"] == [
        BOTH,
        "Which taint do the GPU pools carry?",
        "Where do model weights live?",
    ]


async def test_a_multi_hop_question_that_no_model_splits_is_looked_up_whole(house: House) -> None:
    house.fault("small", Fault.MALFORMED, fault_after_tokens=1, fault_requests=1)
    found = (await house.ask(BOTH)).metadata
    assert (found["queries"], found["unaided"]) == ([BOTH], ["decompose"])


async def test_a_table_without_an_address_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "models.toml"
    path.write_text('[[models]]\nname = "a"')
    with pytest.raises(ModelTableError, match="has no urls and RAG_LLM_URL is not set"):
        ModelRouter.open(routing.load(path), RagSettings())
    path.write_text('[[models]]\nname = "a"\nurls = ["http://x"]\napi_key_env = "NO_SUCH_KEY"')
    with pytest.raises(ModelTableError, match="NO_SUCH_KEY, which is not set"):
        ModelRouter.open(routing.load(path), RagSettings())
