"""One request's tries at the endpoints of a pool."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing

from contracts.openai import ChatCompletionRequest
from contracts.tools import ToolRequest
from rag_graph.errors import LLMError, LLMStreamError, LLMTimeoutError, LLMUnavailableError
from rag_graph.llm.endpoint import Endpoint, pick
from rag_graph.llm.transcript import Output


class Asked:
    """Whom one request has asked."""

    def __init__(self, again_until: float) -> None:
        """Note nobody yet; who failed is asked again until the event loop's time `again_until`."""
        self._again_until = again_until
        self.tried: set[Endpoint] = set()
        self.full: set[Endpoint] = set()
        """Those of them that had no room."""

    def untried(self, tier: Iterable[Endpoint]) -> Endpoint | None:
        """Return the best open endpoint that was not asked yet."""
        return pick((endpoint for endpoint in tier if endpoint not in self.tried), _now())

    def next(self, tier: Sequence[Endpoint]) -> Endpoint | None:
        """Return whom to ask: one that was not asked yet, else for a moment one that was."""
        now = _now()
        again = (endpoint for endpoint in tier if endpoint not in self.full)
        return self.untried(tier) or (pick(again, now) if now < self._again_until else None)


class Attempt:
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
        """Make a try.

        Args:
            endpoint: whom to ask.
            request: what for.
            hung_s: seconds without text after which the endpoint counts as failed.
            fallback: whether it serves another model than the request names.
            others: whether somebody else could answer: then no longer than `hung_s` is waited.
        """
        self._endpoint = endpoint
        self._request = request
        self._fallback = fallback
        # Of a list of tool calls nothing comes before it is whole.
        self._hung_s = math.inf if isinstance(request, ToolRequest) else hung_s
        self._patience_s = self._hung_s if others else math.inf
        self.started = False
        """Whether a token came."""
        self.failure: LLMError | None = None
        """Why another try may succeed."""
        self.given_up = False
        """Whether it might have answered yet, had nobody else been there."""

    def patient(self) -> Attempt:
        """Return the same try once more, which waits as long as the deadline allows."""
        return Attempt(
            self._endpoint, self._request, self._hung_s, fallback=self._fallback, others=False
        )

    async def run(
        self, deadline: float, extra_headers: Mapping[str, str] | None
    ) -> AsyncGenerator[Output, None]:
        """Generate, and note on the endpoint how it went.

        Raises:
            LLMError: as `LLMClient.stream`; unavailable, too, if it said nothing for too long.
        """
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
            self.failure = error
            endpoint.failed(_now(), error)
            raise
        except LLMTimeoutError as error:
            # The only endpoint may have a long queue, and others nobody to go to.
            if not (self.started or endpoint.only) and _now() - begun >= self._hung_s:
                endpoint.failed(_now(), error)
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
            self.given_up = True
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


def _now() -> float:
    return asyncio.get_running_loop().time()


def _left(deadline: float) -> float:
    return deadline - _now()
