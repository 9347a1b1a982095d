"""LLM work under guard: admitted in its tenant's turn, timed, and its tokens counted.

Every way to the LLM service, HTTP's and MCP's, leads through `ask` or `generate`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

from contracts import headers
from contracts.openai import ChatCompletionRequest, Usage
from rag_graph.llm.transcript import End, Output, Piece
from rag_graph.state import Answered, Event, Question, Token
from serve_app.auth import Key

if TYPE_CHECKING:
    from serve_app.services import Services

T = TypeVar("T", bound=Event | Output)


async def ask(
    services: Services, key: Key, question: Question, *, hold: bool = False
) -> AsyncGenerator[Event, None]:
    """Yield the events of an answer from the documents, as `RagGraph.answer` does.

    Args:
        services: what does the work.
        key: who asks.
        question: what.
        hold: whether to wait for an LLM service that starts, yielding `Starting` meanwhile.

    Raises:
        ServeAppError: the question is refused or waited too long.
        RagError: as `RagGraph.answer`.
    """
    account = _Account(services, key, _now())
    timeout_s = question.timeout_s or services.rag.timeout_s
    end = account.began + timeout_s

    async def attempt() -> AsyncGenerator[Event, None]:
        async with services.admission.admit(key.tenant, key.weight, _left(end)) as left_s:
            asked = replace(question, tenant=key.tenant, timeout_s=left_s)
            async with aclosing(services.answer(asked)) as events:
                async for event in events:
                    yield event

    def alone(request: ChatCompletionRequest) -> AsyncGenerator[Output, None]:
        names = (headers.REQUEST_ID, headers.TRACEPARENT)
        values = (question.request_id, question.traceparent)
        sent = {name: value for name, value in zip(names, values, strict=True) if value}
        return _admitted(services, key, request, _left(end), sent)

    events = services.held.answer(attempt, timeout_s) if hold else attempt()
    answer = services.degrading.answer(question, events, alone)
    async with aclosing(account.kept(answer)) as kept:
        async for event in kept:
            yield event


async def generate(
    services: Services,
    key: Key,
    request: ChatCompletionRequest,
    timeout_s: float,
    sent: Mapping[str, str],
) -> AsyncGenerator[Output, None]:
    """Yield what a model says, without any documents.

    Args:
        services: what does the work.
        key: who asks.
        request: sent on as it is.
        timeout_s: seconds for all, waiting included.
        sent: the request's headers; request id and trace context go on to the service.

    Raises:
        ServeAppError: the request is refused or waited too long.
        LLMError: the service did not answer.
    """
    account = _Account(services, key, _now())
    outputs = _admitted(services, key, request, timeout_s, sent)
    async with aclosing(account.kept(outputs)) as kept:
        async for output in kept:
            yield output


async def _admitted(
    services: Services,
    key: Key,
    request: ChatCompletionRequest,
    timeout_s: float,
    sent: Mapping[str, str],
) -> AsyncGenerator[Output, None]:
    passed = {headers.REQUEST_ID: headers.request_id(sent), headers.TENANT: quote(key.tenant)}
    if trace := headers.traceparent(sent):
        passed[headers.TRACEPARENT] = trace
    admitted = services.admission.admit(key.tenant, key.weight, timeout_s)
    async with (
        admitted as left_s,
        aclosing(services.llm.stream(request, left_s, passed)) as outputs,
    ):
        async for output in outputs:
            yield output


@dataclass
class _Account:
    """What one answer takes."""

    services: Services
    key: Key
    began: float
    tokens: int = 0
    """Of the answer, so far."""
    used: Usage | None = None

    async def kept(self, events: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        """Yield `events`, noting the first token, and at the end the tokens."""
        try:
            async with aclosing(events):
                async for event in events:
                    self._note(event)
                    yield event
        finally:
            used = self.used or Usage.of(0, self.tokens)  # broken off: what was sent, at least
            self.services.metrics.count_tokens(
                self.key.tenant, used.prompt_tokens, used.completion_tokens
            )
            await self.services.limiter.spend(self.key, used.total_tokens)

    def _note(self, event: Event | Output) -> None:
        if isinstance(event, Token | Piece):
            if not self.tokens:
                self.services.metrics.ttft.observe(_now() - self.began)
            self.tokens += event.tokens
        elif isinstance(event, Answered):
            all_calls = event.metadata.get("tokens")
            self.used = (
                Usage.of(all_calls["prompt"], all_calls["completion"]) if all_calls else event.usage
            )
        elif isinstance(event, End):
            self.used = event.usage


def _left(end: float) -> float:
    return max(0.001, end - _now())


def _now() -> float:
    return asyncio.get_running_loop().time()
