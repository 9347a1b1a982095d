"""Several endpoints as one LLM: least outstanding requests, retries, breaker, failover."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence, Set
from contextlib import aclosing
from typing import Protocol

from contracts.openai import ChatCompletionRequest, Model
from contracts.tools import ToolRequest
from rag_graph.errors import LLMError, LLMStreamError, LLMTimeoutError, LLMUnavailableError
from rag_graph.llm.client import LLMClient, OnLoad
from rag_graph.llm.endpoint import Endpoint, pick
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

    def stream(
        self,
        request: ChatCompletionRequest,
        timeout_s: float,
        extra_headers: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[Output, None]:
        """Generate."""

    async def aclose(self) -> None:
        """Close its connections."""


class LLMPool:
    """Tiers of endpoints: all of a tier serve one model; the next tier is asked when none can.

    Only what fails before its first token is tried again: after it, a second try would repeat or
    contradict what the reader has seen.
    """

    def __init__(
        self,
        tiers: Sequence[Sequence[LLMClient]],
        first_token_timeout_s: float = FIRST_TOKEN_TIMEOUT_S,
    ) -> None:
        """Make a pool.

        Args:
            tiers: clients of the wanted model first, then those of the models to fall back to.
                A fallback is asked for the first model that it lists.
            first_token_timeout_s: seconds without a word after which another is asked. Where there
                is no other the deadline alone counts: its queue may be long.
        """
        self._first_token_timeout_s = first_token_timeout_s
        self._tiers = [[Endpoint(client) for client in tier] for tier in tiers]
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
        errors: list[LLMError] = []
        for endpoint in self._all():
            try:
                return await endpoint.client.models()
            except LLMError as error:
                errors.append(error)
        raise errors[0]

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
            LLMError: as `LLMClient.stream`; the last failure when all tiers failed.
        """
        deadline = _now() + timeout_s
        failure: LLMError = LLMUnavailableError(
            "No LLM endpoint is healthy now; all failed lately. Try again in a few seconds."
        )
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
        raise failure

    async def _attempts(
        self, request: ChatCompletionRequest, deadline: float, spare: bool
    ) -> AsyncGenerator[_Attempt, None]:
        """Yield what to try, one after another, with a pause between tries on one endpoint."""
        tried: set[Endpoint] = set()
        again_until = _now() + min(AGAIN_S, self._first_token_timeout_s)
        for number, tier in enumerate(self._tiers):
            for attempt in range(ATTEMPTS):
                endpoint = _next(tier, tried, again_until)
                if endpoint is None:
                    break
                tried.add(endpoint)
                others = spare or any(_untried(t, tried) for t in self._tiers[number:])
                hung_s = self._first_token_timeout_s
                yield _Attempt(endpoint, request, hung_s, fallback=number > 0, others=others)
                await self._pause(_next(tier, tried, again_until), attempt, deadline)

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


def _next(tier: Iterable[Endpoint], tried: Set[Endpoint], again_until: float) -> Endpoint | None:
    """Return whom to try: one that was not asked yet, else for a moment one that was."""
    now = _now()
    return _untried(tier, tried) or (pick(tier, now) if now < again_until else None)


def _untried(tier: Iterable[Endpoint], tried: Set[Endpoint]) -> Endpoint | None:
    """Return the best open endpoint that this request did not ask yet."""
    return pick((endpoint for endpoint in tier if endpoint not in tried), _now())


class _Attempt:
    """One try on one endpoint."""

    def __init__(
        self,
        endpoint: Endpoint,
        request: ChatCompletionRequest,
        hung_s: float,
        *,
        fallback: bool,
        others: bool,
    ) -> None:
        self._endpoint = endpoint
        self._request = request
        self._fallback = fallback
        # Of a list of tool calls nothing comes before it is whole.
        self._hung_s = math.inf if isinstance(request, ToolRequest) else hung_s
        self._patience_s = self._hung_s if others else math.inf
        self.started = False
        """Whether a token came."""

    async def run(
        self, deadline: float, extra_headers: Mapping[str, str] | None
    ) -> AsyncGenerator[Output, None]:
        endpoint, begun = self._endpoint, _now()
        try:
            with endpoint.busy():
                request = await self._ready(deadline)
                outputs = endpoint.client.stream(request, _left(deadline), extra_headers)
                async with aclosing(outputs):
                    first = await self._first(outputs)
                    self.started = True
                    yield first
                    async for output in outputs:
                        yield output
        except (LLMUnavailableError, LLMStreamError) as error:
            endpoint.failed(_now(), error.retry_after)
            raise
        except LLMTimeoutError:
            if not self.started and _now() - begun >= self._hung_s:
                endpoint.failed(_now(), None)
            raise
        endpoint.succeeded()

    async def _first(self, outputs: AsyncGenerator[Output, None]) -> Output:
        """Return the first output, for which no longer is waited than another could take over."""
        if self._patience_s == math.inf:
            return await anext(outputs)
        try:
            async with asyncio.timeout(self._patience_s):
                return await anext(outputs)
        except TimeoutError as error:
            raise LLMUnavailableError(
                f"The LLM service at {self._endpoint.client.url} said nothing for "
                f"{self._patience_s:g} s. If its queue is that long, raise "
                "RAG_FIRST_TOKEN_TIMEOUT_S."
            ) from error

    async def _ready(self, deadline: float) -> ChatCompletionRequest:
        """Return the request to send, having probed an endpoint that failed repeatedly."""
        if not (self._endpoint.suspect or self._fallback):
            return self._request
        try:
            async with asyncio.timeout_at(deadline):
                models = await self._endpoint.client.models()
        except TimeoutError as error:
            raise LLMTimeoutError("The LLM service did not answer within the time allowed.") from (
                error
            )
        if not self._fallback or not models:
            return self._request
        return self._request.model_copy(update={"model": models[0].id})


def furthest(starts: Iterable[Starting | None]) -> Starting | None:
    """Return the start that will be over first."""
    found = (start for start in starts if start is not None)
    return max(found, key=lambda start: start.percent, default=None)


def open_llm(settings: RagSettings) -> LLM:
    """Return a client of RAG_LLM_URL, or a pool when it or RAG_LLM_FALLBACK_URL names several.

    Args:
        settings: `llm_url` must not be empty.

    Raises:
        LLMTlsError: the files for mutual TLS cannot be used.
    """
    tiers = [[own_endpoint(url, settings) for url in tier] for tier in settings.llm_tiers if tier]
    return (
        tiers[0][0]
        if len(tiers) == len(tiers[0]) == 1
        else LLMPool(tiers, settings.first_token_timeout_s)
    )


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


def _left(deadline: float) -> float:
    return max(0.001, deadline - _now())
