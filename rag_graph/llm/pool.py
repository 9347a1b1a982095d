"""Several endpoints as one LLM: least outstanding requests, retries, breaker, failover."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Protocol

from contracts.openai import ChatCompletionRequest, Model
from rag_graph.errors import LLMError, LLMStreamError, LLMUnavailableError
from rag_graph.llm.attempt import Asked, Attempt
from rag_graph.llm.client import LLMClient, OnLoad
from rag_graph.llm.endpoint import FULL, Endpoint
from rag_graph.llm.mtls import MutualTlsTransport
from rag_graph.llm.transcript import Output
from rag_graph.settings import RagSettings
from rag_graph.state import Starting

BACKOFF_S = 0.1
"""Longest wait before the second try; doubles with each. The wait is drawn between 0 and it."""
ATTEMPTS = 4
"""Tries on one tier of endpoints."""
AGAIN_S = 1.0
"""Seconds from the first try on in which an endpoint that failed is asked once more."""
FIRST_TOKEN_TIMEOUT_S = 30.0
PATIENCE_S = 2.0
"""The longest `Retry-After` of a full service for which a request waits, once."""


class LLM(Protocol):
    """What the graph needs of a model service: `LLMClient` and `LLMPool` both are one."""

    @property
    def url(self) -> str:
        """Where it is, for messages."""

    def watch(self, on_load: OnLoad) -> None:
        """Have `on_load` told of every endpoint's load with every answer that begins."""

    async def starting(self) -> Starting | None:
        """Return how far the start of the service is, or None when it does not start."""

    async def models(self) -> list[Model]:
        """Return the models that it answers for."""

    async def has(self, model: str) -> bool:
        """Whether it may be asked for `model`."""

    def stream(
        self,
        request: ChatCompletionRequest,
        timeout_s: float,
        extra_headers: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[Output, None]:
        """Generate."""

    async def aclose(self) -> None:
        """Close its connections."""


async def _models(endpoints: Iterable[Endpoint]) -> list[Model]:
    """Return the models of the first endpoint that answers.

    Raises:
        LLMError: none did.
    """
    errors: list[LLMError] = []
    for endpoint in endpoints:
        try:
            return await endpoint.client.models()
        except LLMError as error:
            errors.append(error)
    raise errors[0]


class LLMPool:
    """Tiers of endpoints: all of a tier serve one model; the next tier is asked when none can.

    Only what fails before its first token is tried again: after it, a second try would repeat or
    contradict what the reader has seen.
    """

    def __init__(
        self,
        tiers: Sequence[Sequence[LLMClient]],
        first_token_timeout_s: float = FIRST_TOKEN_TIMEOUT_S,
        *,
        only: bool = False,
    ) -> None:
        """Make a pool.

        Args:
            tiers: clients of the wanted model first, then those of the models to fall back to.
                A fallback is asked for the first model that it lists.
            first_token_timeout_s: seconds without a word after which another is asked. Where there
                is no other the deadline alone counts: its queue may be long.
            only: whether this is all there is, of all models, and a single endpoint.
        """
        self._first_token_timeout_s = first_token_timeout_s
        self._tiers = [[Endpoint(client, only) for client in tier] for tier in tiers]
        self._random = random.Random()  # noqa: S311 - spreads retries, guards nothing

    @property
    def url(self) -> str:
        """The first endpoint's address."""
        return self._tiers[0][0].client.url

    def watch(self, on_load: OnLoad) -> None:
        """Have `on_load` told of every endpoint's load with every answer that begins."""
        for endpoint in self._all():
            endpoint.client.watch(on_load)

    async def starting(self) -> Starting | None:
        """Return the start of the wanted model's endpoint that is furthest, if one starts."""
        clients = [endpoint.client for endpoint in self._tiers[0]]
        return furthest(await asyncio.gather(*(client.starting() for client in clients)))

    async def models(self) -> list[Model]:
        """Return the models of the first endpoint that answers.

        Raises:
            LLMError: none did.
        """
        return await _models(self._all())

    async def has(self, model: str) -> bool:
        """Whether the wanted model's endpoints list `model`.

        While none of them answers, it may be: fallbacks take it for their own.

        Raises:
            LLMError: none answers, and there are no fallbacks.
        """
        try:
            return model in {listed.id for listed in await _models(self._tiers[0])}
        except LLMError:
            if len(self._tiers) == 1:
                raise
            return True

    async def stream(
        self,
        request: ChatCompletionRequest,
        timeout_s: float,
        extra_headers: Mapping[str, str] | None = None,
        *,
        spare: bool = False,
    ) -> AsyncGenerator[Output, None]:
        """Generate on the best endpoint, on others if it fails before its first token.

        Args:
            request: what to generate.
            timeout_s: seconds for all tries together.
            extra_headers: such as the request id and trace context.
            spare: whether the caller has another model to ask when this one fails.

        Raises:
            LLMError: as `LLMClient.stream`; the last failure when all tiers failed, or why none
                was tried.
        """
        deadline = _now() + timeout_s
        failure: LLMError | None = None
        async with aclosing(self._attempts(request, deadline, spare)) as attempts:
            async for attempt in attempts:
                try:
                    async with aclosing(attempt.run(deadline, extra_headers)) as outputs:
                        async for output in outputs:
                            yield output
                except (LLMUnavailableError, LLMStreamError) as error:
                    if attempt.started:
                        raise
                    failure = error
                else:
                    return
        raise failure or min(self._tiers[0], key=lambda e: e.closed_until).refusal()

    async def _attempts(
        self, request: ChatCompletionRequest, deadline: float, spare: bool
    ) -> AsyncGenerator[Attempt, None]:
        """Yield what to try, one after another; all once more where a full service says when.

        And one that was given up for others, if it turns out that they cannot answer.
        """
        attempt, slow = None, None
        async with aclosing(self._round(request, deadline, spare)) as attempts:
            async for attempt in attempts:
                yield attempt
                slow = slow or (attempt if attempt.given_up else None)
        if spare or attempt is None:
            return
        if slow is not None:
            yield slow.patient()
            return
        if not await self._room(attempt.failure, deadline):
            return
        async with aclosing(self._round(request, deadline, spare)) as attempts:
            async for attempt in attempts:
                yield attempt

    async def _round(
        self, request: ChatCompletionRequest, deadline: float, spare: bool
    ) -> AsyncGenerator[Attempt, None]:
        """Yield what to try, with a pause between tries on one endpoint."""
        hung_s = self._first_token_timeout_s
        asked = Asked(_now() + min(AGAIN_S, hung_s))
        for number, tier in enumerate(self._tiers):
            for count in range(ATTEMPTS):
                endpoint = asked.next(tier)
                if endpoint is None:
                    break
                asked.tried.add(endpoint)
                others = spare or any(map(asked.untried, self._tiers[number:]))
                attempt = Attempt(endpoint, request, hung_s, fallback=number > 0, others=others)
                yield attempt
                if attempt.failure is not None and attempt.failure.code in FULL:
                    asked.full.add(endpoint)
                await self._pause(asked.next(tier), count, deadline)

    async def _room(self, failure: LLMError | None, deadline: float) -> bool:
        """Wait as long as a full service asks to, if that is short; return whether it was."""
        if failure is None or failure.retry_after is None or failure.code not in FULL:
            return False
        wait = failure.retry_after * self._random.uniform(1, 1.5)
        if failure.retry_after > PATIENCE_S or 2 * wait > deadline - _now():
            return False
        await asyncio.sleep(wait)
        return True

    def healthy(self) -> bool:
        """Whether an endpoint of the wanted model takes requests, one at a time after failures."""
        now = _now()
        return any(endpoint.is_open(now) for endpoint in self._tiers[0])

    async def aclose(self) -> None:
        """Close the connections of all endpoints."""
        for endpoint in self._all():
            await endpoint.client.aclose()

    def _all(self) -> Iterable[Endpoint]:
        return (endpoint for tier in self._tiers for endpoint in tier)

    async def _pause(self, following: Endpoint | None, attempt: int, deadline: float) -> None:
        """Wait before the next try, unless an endpoint without failures is there to take it."""
        if following is None or not following.failures:
            return
        wait = self._random.uniform(0, BACKOFF_S * 2**attempt)
        if _now() + wait < deadline:
            await asyncio.sleep(wait)


def furthest(starts: Iterable[Starting | None]) -> Starting | None:
    """Return the start that will be over first."""
    found = (start for start in starts if start is not None)
    return max(found, key=lambda start: start.percent, default=None)


def open_llm(settings: RagSettings) -> LLMPool:
    """Return the endpoints of RAG_LLM_URL and RAG_LLM_FALLBACK_URL; one alone is retried, too.

    Args:
        settings: `llm_url` must not be empty.

    Raises:
        LLMTlsError: the files for mutual TLS cannot be used.
    """
    tiers = [[own_endpoint(url, settings) for url in tier] for tier in settings.llm_tiers if tier]
    only = sum(map(len, tiers)) == 1
    return LLMPool(tiers, settings.first_token_timeout_s, only=only)


def own_endpoint(url: str, settings: RagSettings) -> LLMClient:
    """Return a client that shows the key and the certificate of RAG_LLM_URL.

    Raises:
        LLMTlsError: the files for mutual TLS cannot be used.
    """
    files = settings.llm_tls
    transport = MutualTlsTransport(files) if files else None
    key = settings.llm_api_key.get_secret_value()
    return LLMClient(url, key, transport, settings.connect_timeout_s)


def plain_endpoint(url: str, key: str, settings: RagSettings) -> LLMClient:
    """Return a client of an address that is not RAG_LLM_URL's, with a key of its own."""
    return LLMClient(url, key, None, settings.connect_timeout_s)


def _now() -> float:
    return asyncio.get_running_loop().time()
