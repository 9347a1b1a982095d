"""Client of one LLM service: the OpenAI contract over httpx and SSE."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeAlias

import httpx
from pydantic import BaseModel, ValidationError

from contracts import headers, sse
from contracts.openai import (
    ChatCompletionChunk,
    ChatCompletionRequest,
    FinishReason,
    Model,
    ModelList,
    ToolCallDelta,
    Usage,
)
from rag_graph.errors import LLMError, LLMStreamError, LLMTimeoutError, LLMUnavailableError
from rag_graph.llm import failures
from rag_graph.state import Starting

CONNECT_TIMEOUT_S = 2.0
MODELS_TIMEOUT_S = 10.0
LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=64)
"""Streams are long: their number is bounded by admission, not by the pool."""


@dataclass(frozen=True, slots=True)
class Piece:
    """The next piece of generated text."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model wants made; nobody has checked it yet."""

    id: str
    name: str
    arguments: str
    """JSON, as the model wrote it."""


@dataclass(frozen=True, slots=True)
class End:
    """The generation's end; always the last of a stream."""

    finish_reason: FinishReason
    usage: Usage | None
    model: str
    tool_calls: tuple[ToolCall, ...] = ()
    """The calls that the model wants made before it goes on."""


Output: TypeAlias = Piece | End
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
        self._on_load: OnLoad | None = None
        self._http = httpx.AsyncClient(
            base_url=self.url,
            transport=transport,
            headers={"authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx.Timeout(None, connect=connect_timeout_s),
            limits=LIMITS,
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

    async def stream(
        self,
        request: ChatCompletionRequest,
        timeout_s: float,
        extra_headers: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[Output, None]:
        """Generate. Closing the generator, or cancelling its task, closes the upstream request.

        Args:
            request: sent as it is, but streamed and with token counts.
            timeout_s: seconds for the whole generation; sent on as the deadline.
            extra_headers: such as the request id and trace context.

        Raises:
            LLMRequestError: the service refused the request.
            LLMUnavailableError: the service is down or overloaded; nothing was generated.
            LLMTimeoutError: the deadline passed.
            LLMStreamError: the answer broke off or is malformed.
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        sent = {headers.DEADLINE_MS: str(max(1, int(timeout_s * 1000))), **(extra_headers or {})}
        response = await self._send(request, sent, deadline)
        try:
            async with aclosing(_outputs(self._frames(response, deadline))) as outputs:
                async for output in outputs:
                    yield output
        finally:
            await response.aclose()

    async def aclose(self) -> None:
        """Close the pooled connections."""
        await self._http.aclose()

    async def _send(
        self, request: ChatCompletionRequest, sent: Mapping[str, str], deadline: float
    ) -> httpx.Response:
        """Return the head of a 200 response; its body is still to be read."""
        body = request.model_dump(mode="json", exclude_none=True)
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        message = self._http.build_request("POST", "/v1/chat/completions", json=body, headers=sent)
        try:
            async with asyncio.timeout_at(deadline):
                response = await self._http.send(message, stream=True)
                if self._on_load is not None:
                    self._on_load(self.url, headers.load(response.headers))
                if response.status_code == 200:
                    return response
                content = await response.aread()
        except TimeoutError as error:
            raise _late() from error
        except httpx.HTTPError as error:
            raise failures.from_transport(self.url, error, started=False) from error
        raise failures.from_status(self.url, response.status_code, content, response.headers)

    async def _frames(
        self, response: httpx.Response, deadline: float
    ) -> AsyncGenerator[sse.Event, None]:
        decoder = sse.Decoder()
        chunks = response.aiter_bytes()
        started = False
        while chunk := await self._chunk(chunks, deadline, started=started):
            try:
                for event in decoder.feed(chunk):
                    started = True
                    yield event
            except sse.FrameTooLongError as error:
                raise _malformed() from error

    async def _chunk(
        self, chunks: AsyncIterator[bytes], deadline: float, *, started: bool
    ) -> bytes | None:
        try:
            async with asyncio.timeout_at(deadline):
                return await anext(chunks, None)
        except TimeoutError as error:
            raise _late() from error
        except httpx.HTTPError as error:
            raise failures.from_transport(self.url, error, started=started) from error


async def _outputs(frames: AsyncGenerator[sse.Event, None]) -> AsyncGenerator[Output, None]:
    """Turn the frames of a whole stream into text, tool calls and its end."""
    reason: FinishReason | None = None
    usage: Usage | None = None
    model = ""
    deltas: list[ToolCallDelta] = []
    async with aclosing(frames):
        async for frame in frames:
            if frame.data == sse.DONE:
                break
            chunk = _parse(frame.data)
            model, usage = chunk.model, chunk.usage or usage
            for choice in chunk.choices:
                reason = choice.finish_reason or reason
                deltas += choice.delta.tool_calls or ()
                if choice.delta.content:
                    yield Piece(choice.delta.content)
    if reason is None:
        raise LLMStreamError("The LLM service ended its answer without a reason. Ask again.")
    yield End(reason, usage, model, _joined(deltas))


def _joined(deltas: Sequence[ToolCallDelta]) -> tuple[ToolCall, ...]:
    """Return the calls that the deltas add up to, in the order of their indices."""
    ids: dict[int, str] = {}
    names: dict[int, str] = defaultdict(str)
    arguments: dict[int, str] = defaultdict(str)
    for delta in deltas:
        ids.setdefault(delta.index, delta.id or f"call_{delta.index}")
        if delta.function is not None:
            names[delta.index] += delta.function.name or ""
            arguments[delta.index] += delta.function.arguments or ""
    return tuple(ToolCall(ids[i], names[i], arguments[i] or "{}") for i in sorted(ids))


def _parse(data: str) -> ChatCompletionChunk:
    try:
        return ChatCompletionChunk.model_validate_json(data)
    except ValidationError as error:
        raise (failures.from_frame(data) or _malformed()) from error


def _late() -> LLMError:
    return LLMTimeoutError(
        "The LLM service did not answer within the time allowed. "
        "Ask for fewer tokens, or raise RAG_TIMEOUT_S."
    )


def _malformed() -> LLMError:
    return LLMStreamError("The LLM service sent a frame that is not of the contract. Ask again.")
