"""The pool over mocks that fail in every way."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from typing import Any

import pytest

from contracts.errors import Code
from contracts.mock_llm import Fault, MockLLM, MockSettings
from contracts.openai import ChatCompletionRequest, ChatMessage
from contracts.tools import Message, ToolRequest
from rag_graph.errors import LLMRequestError, LLMStreamError, LLMTimeoutError, LLMUnavailableError
from rag_graph.llm.asgi_transport import StreamingASGITransport
from rag_graph.llm.client import LLMClient
from rag_graph.llm.endpoint import FAILURES_TO_OPEN
from rag_graph.llm.pool import ATTEMPTS, LLMPool, open_llm
from rag_graph.llm.transcript import End, Piece
from rag_graph.settings import RagSettings

REQUEST = ChatCompletionRequest(
    model="mock", messages=[ChatMessage(role="user", content="one two three")]
)


def mock(**settings: Any) -> MockLLM:
    return MockLLM(MockSettings(**settings))


def pool(*tiers: list[MockLLM], **options: Any) -> LLMPool:
    return LLMPool(
        [
            [LLMClient("http://mock", transport=StreamingASGITransport(app)) for app in tier]
            for tier in tiers
        ],
        **options,
    )


async def ask(llm: LLMPool, timeout_s: float = 10.0) -> End:
    outputs = [output async for output in llm.stream(REQUEST, timeout_s)]
    assert isinstance(outputs[-1], End)
    assert any(isinstance(output, Piece) for output in outputs)
    return outputs[-1]


@pytest.mark.parametrize("fault", [Fault.SERVER_ERROR, Fault.RATE_LIMIT])
async def test_a_failing_endpoint_costs_no_answer(fault: Fault) -> None:
    bad, good = mock(fault=fault), mock()
    llm = pool([bad, good])
    for _ in range(6):
        await ask(llm)
    assert good.requests == 6
    assert 1 <= bad.requests <= FAILURES_TO_OPEN


@pytest.mark.parametrize("fault", [Fault.DISCONNECT, Fault.MALFORMED])
async def test_a_failure_before_the_first_token_is_tried_again(fault: Fault) -> None:
    bad = mock(fault=fault, fault_after_tokens=0, fault_requests=1)
    await ask(pool([bad]))
    assert bad.requests == 2


@pytest.mark.parametrize("fault", [Fault.DISCONNECT, Fault.MALFORMED])
async def test_a_failure_after_the_first_token_is_not(fault: Fault) -> None:
    bad, good = mock(fault=fault, fault_after_tokens=2), mock()
    with pytest.raises(LLMStreamError):
        await ask(pool([bad, good]))
    assert (bad.requests, good.requests) == (1, 0)


async def test_when_no_endpoint_of_a_model_answers_the_next_model_does() -> None:
    down, spare = mock(fault=Fault.SERVER_ERROR), mock(model="spare")
    llm = pool([down], [spare])
    assert (await ask(llm)).model == "spare"
    assert (await ask(llm)).model == "spare"
    assert down.requests == FAILURES_TO_OPEN <= ATTEMPTS


async def test_a_healed_endpoint_is_probed_and_used_again() -> None:
    app = mock(fault=Fault.SERVER_ERROR)
    llm = pool([app])
    with pytest.raises(LLMUnavailableError):
        await ask(llm)
    with pytest.raises(LLMUnavailableError, match="told to fail"):
        await ask(llm)
    app.settings = MockSettings()
    llm._tiers[0][0].closed_until = 0.0  # as if the time had passed
    assert llm._tiers[0][0].suspect
    await ask(llm)
    assert not llm._tiers[0][0].suspect


async def test_a_request_that_is_refused_is_not_tried_again() -> None:
    app = mock(model="other")
    with pytest.raises(LLMRequestError):
        await ask(pool([app, app]))
    assert app.requests == 1


async def test_the_deadline_holds_over_all_tries() -> None:
    slow = mock(fault=Fault.STALL, fault_after_tokens=0)
    loop = asyncio.get_running_loop()
    begin = loop.time()
    with pytest.raises(LLMTimeoutError):
        await ask(pool([slow, slow]), 0.3)
    assert loop.time() - begin < 2


async def test_where_one_says_nothing_another_answers_and_it_is_soon_left_alone() -> None:
    hung, good = mock(fault=Fault.STALL, fault_after_tokens=0), mock()
    llm = pool([hung, good], first_token_timeout_s=0.5)
    await asyncio.gather(*(ask(llm) for _ in range(2 * FAILURES_TO_OPEN)))
    assert good.requests == 2 * FAILURES_TO_OPEN
    assert (hung.requests, hung.active) == (FAILURES_TO_OPEN, 0)
    await ask(llm)
    assert hung.requests == FAILURES_TO_OPEN


async def test_where_none_says_anything_the_fallback_answers() -> None:
    hung, spare = mock(fault=Fault.STALL, fault_after_tokens=0), mock(model="spare")
    assert (await ask(pool([hung], [spare], first_token_timeout_s=0.05))).model == "spare"
    assert hung.requests == 1


async def test_a_long_queue_is_waited_for_where_nobody_else_could_answer() -> None:
    slow, slower = mock(time_to_first_token_s=0.2), mock(time_to_first_token_s=0.3)
    await ask(pool([slow], first_token_timeout_s=0.05))
    assert slow.requests == 1
    await ask(pool([slow, slower], first_token_timeout_s=0.05))
    assert (slow.requests, slower.requests) == (2, 1), "the second of them is waited for"


async def test_who_was_given_up_is_waited_for_when_the_others_cannot_answer() -> None:
    slow, broken = mock(time_to_first_token_s=0.3), mock(fault=Fault.SERVER_ERROR)
    await ask(pool([slow], [broken], first_token_timeout_s=0.05))
    assert slow.requests == 2


async def test_the_deadline_of_a_request_says_nothing_of_the_only_endpoint() -> None:
    llm = pool([mock(time_to_first_token_s=0.2)], first_token_timeout_s=0.02, only=True)
    for _ in range(FAILURES_TO_OPEN):
        with pytest.raises(LLMTimeoutError):
            await ask(llm, 0.05)
    await ask(llm)


async def test_tool_calls_may_take_their_time() -> None:
    slow, other = mock(time_to_first_token_s=0.2), mock()
    request = ToolRequest(model="mock", messages=[Message(role="user", content="one")])
    llm = pool([slow, other], first_token_timeout_s=0.05)
    assert [output async for output in llm.stream(request, 10)]
    assert (slow.requests, other.requests) == (1, 0)


async def test_silence_to_the_deadline_counts_as_a_failure_but_impatience_does_not() -> None:
    hung = mock(fault=Fault.STALL, fault_after_tokens=0)
    llm = pool([hung], first_token_timeout_s=1)
    for timeout_s, failures in ((0.02, 0), (1.2, 1)):
        with pytest.raises(LLMTimeoutError):
            await ask(llm, timeout_s)
        assert llm._tiers[0][0].failures == failures


async def test_requests_spread_by_how_busy_endpoints_are() -> None:
    apps = [mock(time_to_first_token_s=0.05), mock(time_to_first_token_s=0.05)]
    llm = pool(apps)
    await asyncio.gather(*(ask(llm) for _ in range(8)))
    assert [app.requests for app in apps] == [4, 4]


async def test_closing_the_stream_frees_the_endpoint_at_once() -> None:
    app = mock(tokens_per_s=20, answer_tokens=1000)
    llm = pool([app])
    outputs = llm.stream(REQUEST, 60)
    await anext(outputs)
    assert app.active == llm._tiers[0][0].outstanding == 1
    await outputs.aclose()
    assert app.active == llm._tiers[0][0].outstanding == 0


async def test_settings_make_a_pool_that_knows_whether_it_has_one_endpoint() -> None:
    one = open_llm(RagSettings(llm_url="http://a/v1"))
    many = open_llm(RagSettings(llm_url="http://a, http://b", llm_fallback_url="http://c"))
    assert one.url == many.url == "http://a"
    assert [e.only for llm in (one, many) for tier in llm._tiers for e in tier] == [True] + [
        False
    ] * 3
    await many.aclose()
    await one.aclose()


async def test_one_failure_of_the_only_endpoint_costs_no_answer() -> None:
    app = mock(fault=Fault.SERVER_ERROR, fault_requests=1)
    await ask(pool([app], only=True))
    assert app.requests == 2


async def test_that_the_only_endpoint_is_down_is_told_soon() -> None:
    llm = LLMPool([[LLMClient("http://127.0.0.1:1")]], only=True)
    begin = asyncio.get_running_loop().time()
    for _ in range(2):
        with pytest.raises(LLMUnavailableError, match="cannot be reached"):
            await ask(llm)
    assert asyncio.get_running_loop().time() - begin < 1
    await llm.aclose()


class Waits(random.Random):
    """Draws no waits, and counts them."""

    drawn = 0

    def uniform(self, a: float, b: float) -> float:
        self.drawn += 1
        return 0.0


async def test_a_full_service_that_says_when_is_asked_once_more() -> None:
    app = mock(fault=Fault.RATE_LIMIT, fault_requests=1)
    llm = pool([app], only=True)
    waits = llm._random = Waits()
    await ask(llm)
    assert (app.requests, waits.drawn) == (2, 1)
    app.settings = MockSettings(fault=Fault.RATE_LIMIT)
    with pytest.raises(LLMUnavailableError) as refused:
        await ask(llm)
    assert refused.value.code == Code.RATE_LIMITED
    assert (app.requests, waits.drawn) == (4, 2)


@pytest.mark.parametrize(("retry_after_s", "timeout_s"), [(60, 200.0), (1, 1.5)])
async def test_nobody_waits_long_for_a_full_service(retry_after_s: int, timeout_s: float) -> None:
    app = mock(fault=Fault.RATE_LIMIT, retry_after_s=retry_after_s)
    llm = pool([app], only=True)
    begin = asyncio.get_running_loop().time()
    for _ in range(2 * FAILURES_TO_OPEN):
        with pytest.raises(LLMUnavailableError) as refused:
            await ask(llm, timeout_s)
        assert refused.value.retry_after == retry_after_s
    assert asyncio.get_running_loop().time() - begin < 1
    app.settings = MockSettings()
    await ask(llm)


async def test_a_service_that_starts_is_not_hammered_and_says_so_to_all() -> None:
    app = mock(start_s=50)
    llm = pool([app], only=True)
    for _ in range(3):
        with pytest.raises(LLMUnavailableError) as refused:
            await ask(llm)
        assert refused.value.code == Code.NOT_READY
    assert app.requests == 1


async def test_models_come_from_the_first_endpoint_that_answers() -> None:
    dead = LLMClient("http://127.0.0.1:1")
    alive = LLMClient("http://mock", transport=StreamingASGITransport(mock()))
    llm = LLMPool([[dead, alive]])
    assert [model.id for model in await llm.models()] == ["mock"]
    with pytest.raises(LLMUnavailableError):
        await LLMPool([[dead]]).models()
    await llm.aclose()


async def test_a_model_is_unknown_only_if_its_own_endpoints_do_not_list_it() -> None:
    own, spare = mock(), mock(model="spare")
    llm = pool([own], [spare])
    assert [await llm.has(name) for name in ("mock", "spare")] == [True, False]
    async with aclosing(LLMClient("http://127.0.0.1:1")) as gone:
        assert await LLMPool([[gone], [gone]]).has("mock"), "the fallback takes it for its own"
        with pytest.raises(LLMUnavailableError):
            await LLMPool([[gone]]).has("mock")
