"""Reference mock of the LLM service: the same API, deterministic answers, faults on demand.

It serves `serve run serve_app.app:app` on a laptop (in process), the tests, and the load
benchmarks. An answer quotes the sentence of the given passages that shares the most words with the
question, and cites its passage (`contracts.mock_answer`); it is the mode of a distribution without
spread, so every `temperature`, `top_p` and `seed` samples it.

As a process:

    python -m contracts.mock_llm --port 8001 --time_to_first_token_s 0.2 --tokens_per_s 30
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from enum import StrEnum
from typing import Annotated, Any

import uvicorn
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from contracts import errors, headers, sse
from contracts.errors import Code
from contracts.mock_answer import Answer, ContextLengthError, answer, tool_calls
from contracts.mock_load import Batch, Start
from contracts.openai import (
    AssistantMessage,
    ChatChoice,
    ChatCompletion,
    ChatCompletionRequest,
    Completion,
    CompletionChoice,
    CompletionRequest,
    Model,
    ModelList,
    Usage,
)
from contracts.streaming import ChatFrames, CompletionFrames
from contracts.tools import ToolRequest


class Fault(StrEnum):
    """What the mock can do wrong."""

    SERVER_ERROR = "server_error"
    """Answer 500 at once."""
    RATE_LIMIT = "rate_limit"
    """Answer 429 with `Retry-After`."""
    STALL = "stall"
    """Send `fault_after_tokens` tokens, then nothing for ever."""
    DISCONNECT = "disconnect"
    """Send `fault_after_tokens` tokens, then close the connection mid-response."""
    MALFORMED = "malformed"
    """Send `fault_after_tokens` tokens, then a frame (or a body) that is not JSON."""


class MockSettings(BaseSettings):
    """How the mock behaves. Read from `MOCK_LLM_*` and, as a process, from the command line."""

    model_config = SettingsConfigDict(env_prefix="MOCK_LLM_", frozen=True)

    host: Annotated[str, Field(description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, description="Port to listen on.")] = 8001
    model: Annotated[str, Field(min_length=1, description="Model id served.")] = "mock"
    max_model_len: Annotated[int, Field(ge=2, description="Context length, tokens.")] = 32_768
    time_to_first_token_s: Annotated[float, Field(ge=0, description="Seconds before a token.")] = 0
    tokens_per_s: Annotated[float, Field(ge=0, description="Tokens a second; 0: no limit.")] = 0
    answer_tokens: Annotated[
        int,
        Field(ge=0, description="Lengthen or cut answers to this many tokens; 0: as they come."),
    ] = 0
    max_num_seqs: Annotated[
        int,
        Field(ge=0, description="Answers generated at once; 0: no limit, and no load reported."),
    ] = 0
    max_waiting: Annotated[
        int, Field(ge=0, description="Requests that wait for that; more are refused.")
    ] = 256
    start_s: Annotated[float, Field(ge=0, description="Seconds that a start takes.")] = 0
    repeat: Annotated[
        bool, Field(description="Say the answer again and again, as small models do.")
    ] = False
    fault: Annotated[Fault | None, Field(description="What to do wrong.")] = None
    fault_requests: Annotated[
        int | None, Field(ge=0, description="Only the first N requests fail; unset: all do.")
    ] = None
    fault_after_tokens: Annotated[int, Field(ge=0, description="Tokens before the fault.")] = 2
    retry_after_s: Annotated[int, Field(ge=0, description="`Retry-After` of a 429.")] = 1


class _HangUpError(Exception):
    """Ends a response in its middle."""


class _Stream(StreamingResponse):
    """A streamed response that can be broken off, as a crashing server breaks it off."""

    async def stream_response(self, send: Send) -> None:
        try:
            await super().stream_response(send)
        except _HangUpError:
            return  # without the last body message: the server closes the connection


class MockLLM:
    """The ASGI application. `settings` may be replaced between requests to change its behaviour.

    Attributes:
        requests: completion requests received so far, refused ones included.
        active: completions being answered now.
    """

    def __init__(
        self, settings: MockSettings | None = None, now: Callable[[], float] = time.monotonic
    ) -> None:
        """Make a mock; `now` is the clock, in seconds, that its start goes by."""
        self.settings = settings or MockSettings()
        self.requests = 0
        self.active = 0
        self._created = int(time.time())
        self._batch = Batch()
        self._start = Start(self.settings.start_s, now)
        self._app = Starlette(
            routes=[
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
                Route("/v1/completions", self._complete, methods=["POST"]),
                Route("/v1/models", self._models),
                Route("/healthz", self._health),
                Route("/readyz", self._ready),
                Route("/metrics", self._metrics),
            ],
            exception_handlers={HTTPException: _http_error},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    async def _models(self, _: Request) -> Response:
        served = self.settings
        model = Model(
            id=served.model,
            created=self._created,
            owned_by="isthmus",
            max_model_len=served.max_model_len,
        )
        return _json(ModelList(data=[model]).model_dump_json())

    async def _health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _ready(self, _: Request) -> Response:
        if not self._start.left_s:
            return JSONResponse({"status": "ready", "model": self.settings.model})
        percent, left_s = round(self._start.percent, 1), round(self._start.left_s, 1)
        body = {"status": "starting", "phase": "loading", "percent": percent, "eta_s": left_s}
        return JSONResponse(body, 503, headers={headers.RETRY_AFTER: "1"})

    async def _metrics(self, _: Request) -> Response:
        return PlainTextResponse(self._batch.metrics(self.requests))

    async def _chat(self, request: Request) -> Response:
        try:
            wanted = ToolRequest.model_validate_json(await request.body())
        except ValidationError as error:
            return _error(errors.from_validation_error(error))
        if wanted.tools and not wanted.stream:
            message = "The mock calls tools in streamed answers only; set stream."
            return _error(errors.body(Code.INVALID_REQUEST, message, "tools"))
        prompts = [message.text for message in wanted.messages]
        return await self._respond(request, wanted, prompts)

    async def _complete(self, request: Request) -> Response:
        try:
            wanted = CompletionRequest.model_validate_json(await request.body())
        except ValidationError as error:
            return _error(errors.from_validation_error(error))
        return await self._respond(request, wanted, [wanted.prompt])

    async def _respond(
        self,
        request: Request,
        wanted: ChatCompletionRequest | CompletionRequest,
        prompts: Sequence[str],
    ) -> Response:
        settings, fault = self.settings, self._next_fault()
        if refusal := self._full() or _refusal(wanted, settings, fault):
            return self._loaded(refusal)
        try:
            reply = answer(
                prompts,
                max_model_len=settings.max_model_len,
                answer_tokens=settings.answer_tokens,
                repeat=settings.repeat,
                token_limit=wanted.token_limit,
                stop=wanted.stop_sequences,
            )
        except ContextLengthError as error:
            return _error(errors.body(Code.CONTEXT_LENGTH_EXCEEDED, str(error)))
        exchange = _Exchange(wanted, reply, settings, fault, self._batch)
        echoed = {headers.REQUEST_ID: headers.request_id(request.headers)}
        if wanted.stream:
            frames = self._counted(exchange.frames())
            return self._loaded(_Stream(frames, media_type=sse.MEDIA_TYPE, headers=echoed))
        body = self._counted(exchange.body())
        return self._loaded(_Stream(body, media_type="application/json", headers=echoed))

    def _full(self) -> Response | None:
        """Return the refusal of a service that starts or has no room, if it is so."""
        if self._start.left_s:
            refused = _error(errors.body(Code.NOT_READY, "The mock LLM starts; try again soon."))
        elif self.settings.max_num_seqs and self.active >= self._capacity:
            refused = _error(errors.body(Code.OVERLOADED, "The mock LLM is full; try again soon."))
        else:
            return None
        refused.headers[headers.RETRY_AFTER] = "1"
        return refused

    def _loaded(self, response: Response) -> Response:
        if self.settings.max_num_seqs:
            response.headers[headers.LOAD] = self._batch.header(self._capacity)
        return response

    @property
    def _capacity(self) -> int:
        return self.settings.max_num_seqs + self.settings.max_waiting

    def _next_fault(self) -> Fault | None:
        self.requests += 1
        limit = self.settings.fault_requests
        return self.settings.fault if limit is None or self.requests <= limit else None

    async def _counted(self, frames: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        self.active += 1
        try:
            async for frame in frames:
                yield frame
        finally:
            self.active -= 1


class _Exchange:
    """One accepted request and the answer it will get, at the pace and with the fault set."""

    def __init__(
        self,
        wanted: ChatCompletionRequest | CompletionRequest,
        reply: Answer,
        settings: MockSettings,
        fault: Fault | None,
        batch: Batch,
    ) -> None:
        self._wanted = wanted
        self._reply = reply
        self._settings = settings
        self._fault = fault
        self._batch = batch
        self._asked = time.monotonic()
        self._chat = isinstance(wanted, ChatCompletionRequest)
        self._id = f"{'chatcmpl' if self._chat else 'cmpl'}-{uuid.uuid4().hex}"
        self._created = int(time.time())

    async def frames(self) -> AsyncIterator[bytes]:
        """Yield the SSE frames of a streamed answer."""
        kind = ChatFrames if self._chat else CompletionFrames
        frames = kind(self._id, self._created, self._settings.model)
        if isinstance(frames, ChatFrames):
            yield frames.role()
            if calls := self._tool_calls():
                yield frames.tool_calls(calls)
                yield frames.finish("tool_calls")
                if self._wanted.include_usage:
                    yield frames.usage(Usage.of(self._reply.prompt_tokens, len(calls)))
                yield sse.DONE_FRAME
                return
        async for token in self._tokens():
            yield frames.content(token)
        if self._fault is Fault.MALFORMED:
            yield sse.encode(b'{"id": "chatcmpl-')
        yield frames.finish(self._reply.finish_reason)
        if self._wanted.include_usage:
            yield frames.usage(self._reply.usage)
        yield sse.DONE_FRAME

    def _tool_calls(self) -> list[dict[str, Any]]:
        """Return the calls to answer with: none once there are results, or with a fault."""
        wanted = self._wanted
        if not isinstance(wanted, ToolRequest) or self._fault or wanted.messages[-1].role == "tool":
            return []
        return tool_calls(wanted.tools or (), wanted.messages[-1].text)

    async def body(self) -> AsyncIterator[bytes]:
        """Yield the one JSON body of an answer that is not streamed."""
        async for _ in self._tokens():
            pass  # the time that generating takes
        whole = self._completion().model_dump_json().encode()
        yield whole[: len(whole) // 2] if self._fault is Fault.MALFORMED else whole

    async def _tokens(self) -> AsyncIterator[str]:
        """Yield the answer's tokens at the set pace, up to where a fault strikes."""
        async with self._batch.place(self._settings.max_num_seqs):
            async with aclosing(self._paced()) as tokens:
                async for token in tokens:
                    yield token
            if self._fault is Fault.STALL:
                await asyncio.Event().wait()
            if self._fault is Fault.DISCONNECT:
                raise _HangUpError

    async def _paced(self) -> AsyncGenerator[str, None]:
        settings = self._settings
        gap = 1 / settings.tokens_per_s if settings.tokens_per_s else 0.0
        due = time.monotonic() + settings.time_to_first_token_s
        for number, token in enumerate(self._reply.tokens):
            if self._fault and number == settings.fault_after_tokens:
                return
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due += gap
            if number == 0:
                self._batch.first_token(time.monotonic() - self._asked)
            yield token

    def _completion(self) -> ChatCompletion | Completion:
        reply = self._reply
        head = {"id": self._id, "created": self._created, "model": self._settings.model}
        if self._chat:
            message = AssistantMessage(content=reply.text)
            chat = ChatChoice(message=message, finish_reason=reply.finish_reason)
            return ChatCompletion(**head, choices=[chat], usage=reply.usage)
        choice = CompletionChoice(text=reply.text, finish_reason=reply.finish_reason)
        return Completion(**head, choices=[choice], usage=reply.usage)


def _refusal(
    wanted: ChatCompletionRequest | CompletionRequest, settings: MockSettings, fault: Fault | None
) -> Response | None:
    """Return the error that a request gets before any token, if it gets one."""
    if fault is Fault.SERVER_ERROR:
        return _error(errors.body(Code.INTERNAL, "The mock LLM was told to fail. Try again."))
    if fault is Fault.RATE_LIMIT:
        refused = _error(errors.body(Code.RATE_LIMITED, "The mock LLM was told to refuse."))
        refused.headers[headers.RETRY_AFTER] = str(settings.retry_after_s)
        return refused
    if wanted.model != settings.model:
        message = f"The model {wanted.model!r} does not exist; this service has {settings.model!r}."
        return _error(errors.body(Code.MODEL_NOT_FOUND, message, "model"))
    return None


def _error(body: errors.ErrorBody) -> Response:
    content = errors.ErrorEnvelope(error=body).model_dump_json()
    return Response(content, errors.STATUS[body.code], media_type="application/json")


def _json(content: str) -> Response:
    return Response(content, media_type="application/json")


async def _http_error(request: Request, error: Exception) -> Response:
    """Answer an unknown path or method in the envelope."""
    if isinstance(error, HTTPException) and error.status_code == 405:
        message = f"{request.url.path} does not take {request.method}."
        return _error(errors.body(Code.METHOD_NOT_ALLOWED, message))
    return _error(errors.body(Code.NOT_FOUND, f"There is nothing at {request.url.path}."))


class _CommandLine(MockSettings):
    """The mock's settings, read from the command line first."""

    model_config = SettingsConfigDict(cli_parse_args=True, cli_prog_name="contracts.mock_llm")


def main() -> None:
    """Serve the mock until interrupted."""
    settings = _CommandLine()
    uvicorn.run(MockLLM(settings), host=settings.host, port=settings.port, log_level="warning")


if __name__ == "__main__":
    main()
