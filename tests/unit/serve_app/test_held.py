"""Questions held while the only endpoint of the LLM service starts, over the real pool."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator

import pytest

from contracts.mock_llm import MockLLM, MockSettings
from contracts.openai import ChatCompletionRequest, ChatMessage
from rag_graph.llm.asgi_transport import StreamingASGITransport
from rag_graph.llm.client import LLMClient
from rag_graph.llm.pool import LLMPool
from rag_graph.llm.transcript import Piece
from rag_graph.state import Event, Starting, Token
from serve_app import held
from serve_app.held import Held
from serve_app.metrics import Metrics


async def test_all_that_come_during_a_start_are_told_of_it_and_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(held, "LOOK_EVERY_S", 0.01)
    looks = itertools.count()
    mock = MockLLM(MockSettings(start_s=50), lambda: next(looks))
    client = LLMClient("http://mock", transport=StreamingASGITransport(mock))
    llm = LLMPool([[client]], only=True)
    waiting = Held(llm, 8, Metrics())

    async def attempt() -> AsyncGenerator[Event, None]:
        said = [ChatMessage(role="user", content="one two")]
        async for output in llm.stream(ChatCompletionRequest(model="mock", messages=said), 10):
            if isinstance(output, Piece):
                yield Token(output.text, output.tokens)

    async def seen() -> list[Event]:
        return [event async for event in waiting.answer(attempt, 10)]

    for events in await asyncio.gather(*(seen() for _ in range(4))):
        assert isinstance(events[0], Starting)
        assert isinstance(events[-1], Token)
    assert mock.requests < 10
