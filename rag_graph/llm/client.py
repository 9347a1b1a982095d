"""Client of one LLM service: the OpenAI contract over httpx and SSE."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, closing
from typing import TypeAlias

import httpx
from pydantic import BaseModel, ValidationError

from contracts import headers
from contracts.openai import ChatCompletionRequest, Model, ModelList
from rag_graph.errors import LLMError, LLMTimeoutError, LLMUnavailableError
from rag_graph.llm import failures
from rag_graph.llm.deadline import Deadline
from rag_graph.llm.transcript import Output, Transcript
from rag_graph.llm.transport import Transport
from rag_graph.state import Starting

CONNECT_TIMEOUT_S = 2.0
MODELS_TIMEOUT_S = 10.0


OnLoad: TypeAlias = Callable[[str, headers.Load | None], None]
"""Takes an endpoint's URL and the load that it reported; None where it reports none."""


class _Readiness(BaseModel):
    """What the LLM service says at /readyz."""

    status: str
    phase: str = ""
    percent: float = 0.0
    eta_s: float | None = None


class LLMClient:
    """One endpoint. Keep one client for the process: it pools connections."""

    def __init__(
        self,
        base_url: str,
        api_key: str = "",
        transport: httpx.AsyncBaseTransport | None = None,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> None:
        """Make a client; nothing is connected yet.

        Args:
            base_url: with or without the ending "/v1".
            api_key: sent as a bearer token; empty for none.
            transport: in place of the network, such as `StreamingASGITransport`.
            connect_timeout_s: seconds to reach the service. Reading has the request's deadline.
        """
        self.url = base_url.rstrip("/").removesuffix("/v1")
        self._completions = httpx.URL(f"{self.url}/v1/chat/completions")
        self._on_load: OnLoad | None = None
        self._transport = transport or Transport()
        self._headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._patience = httpx.Timeout(None, connect=connect_timeout_s).as_dict()
        self._http = httpx.AsyncClient(
            base_url=self.url, transport=self._transport, headers=self._headers
        )

    def watch(self, on_load: OnLoad) -> None:
        """Have `on_load` told of the service's load with every answer that begins."""
        self._on_load = on_load

    async def starting(self) -> Starting | None:
        """Return how far the service's start is, or None when it does not say that it starts."""
        try:
            response = await self._http.get("/readyz", timeout=MODELS_TIMEOUT_S)
            said = _Readiness.model_validate_json(response.content)
        except (httpx.HTTPError, ValidationError):
            return None  # it is gone, or is another service than ours
        return Starting(said.phase, said.percent, said.eta_s) if said.status == "starting" else None

    async def models(self) -> list[Model]:
        """Return the models that the service answers for.

        Raises:
            LLMError: it did not answer.
        """
        try:
            response = await self._http.get("/v1/models", timeout=MODELS_TIMEOUT_S)
        except httpx.HTTPError as error:
            raise failures.from_transport(self.url, error, started=False) from error
        if response.status_code != 200:
            raise failures.from_status(
                self.url, response.status_code, response.content, response.headers
            )
        try:
            return ModelList.model_validate_json(response.content).data
        except ValidationError as error:
            raise LLMUnavailableError(
                f"{self.url}/v1/models does not answer as the OpenAI API does. Check RAG_LLM_URL."
            ) from error

    async def has(self, model: str) -> bool:
        """Whether the service lists `model`.

        Raises:
            LLMError: it did not answer.
        """
        return model in {listed.id for listed in await self.models()}

    async def stream(
        self,
        request: ChatCompletionRequest,
        timeout_s: float,
        extra_headers: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[Output, None]:
        """Generate. Closing the generator, or cancelling its task, closes the upstream request.

        Args:
            request: sent as it is, but streamed and with token counts.
            timeout_s: seconds for the whole generation; sent on as the deadline. From 0 down it
                has passed, and nothing is sent.
            extra_headers: such as the request id and trace context.

        Raises:
            LLMRequestError: the service refused the request.
            LLMUnavailableError: the service is down or overloaded; nothing was generated.
            LLMTimeoutError: the deadline passed.
            LLMStreamError: the answer broke off or is malformed.
        """
        if timeout_s <= 0:
            raise _late()
        sent = {headers.DEADLINE_MS: str(max(1, int(timeout_s * 1000))), **(extra_headers or {})}
        end = asyncio.get_running_loop().time() + timeout_s
        with closing(Deadline(end)) as deadline:
            response = await self._send(request, sent, deadline)
            try:
                async with aclosing(self._outputs(response, deadline)) as outputs:
                    async for output in outputs:
                        yield output
            finally:
                await response.aclose()

    async def aclose(self) -> None:
        """Close the pooled connections."""
        await self._http.aclose()

    async def _send(
        self, request: ChatCompletionRequest, sent: Mapping[str, str], deadline: Deadline
    ) -> httpx.Response:
        """Return the head of a 200 response; its body is still to be read.

        Past httpx's client, whose cookies, redirects and authentication have no part here and cost
        a tenth of the call.
        """
        body = request.model_dump(mode="json", exclude_none=True)
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        message = httpx.Request(
            "POST",
            self._completions,
            json=body,
            headers={"accept-encoding": "identity", **self._headers, **sent},
            extensions={"timeout": self._patience},
        )
        try:
            with deadline:
                response = await self._transport.handle_async_request(message)
                if self._on_load is not None:
                    self._on_load(self.url, headers.load(response.headers))
                if response.status_code == 200:
                    return response
                content = await response.aread()
        except TimeoutError as error:
            raise _late() from error
        except httpx.HTTPError as error:
            raise failures.from_transport(self.url, error, started=False) from error
        status, left_s = response.status_code, deadline.left_s
        raise failures.from_status(self.url, status, content, response.headers, left_s)

    async def _outputs(
        self, response: httpx.Response, deadline: Deadline
    ) -> AsyncGenerator[Output, None]:
        """Yield a piece for each read: what piled up under load costs no more than one token."""
        assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 - of the transport
        transcript, chunks = Transcript(), aiter(response.stream)  # as it comes: not encoded
        while not transcript.ended:
            try:
                with deadline:
                    chunk = await anext(chunks, b"")
            except TimeoutError as error:
                raise _late() from error
            except httpx.HTTPError as error:
                started = transcript.started
                raise failures.from_transport(self.url, error, started=started) from error
            if piece := transcript.read(chunk):
                yield piece
        yield transcript.end()


def _late() -> LLMError:
    return LLMTimeoutError(
        "The LLM service did not answer within the time allowed. "
        "Ask for fewer tokens, or raise RAG_TIMEOUT_S."
    )
