"""`POST /v1/chat/completions` and `GET /v1/models`, as OpenAI's clients speak them."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import asdict
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Header, Path, Request
from starlette.responses import Response

from contracts import headers, sse
from contracts.errors import Code, CodedError
from contracts.openai import Model, ModelList
from rag_graph.errors import LLMError, RagError
from rag_graph.state import Answered
from serve_app import guard, plain
from serve_app.auth import Key
from serve_app.chat import (
    ChatAnswer,
    ChatRequest,
    Events,
    Reply,
    begun,
    error_frame,
    question,
)
from serve_app.errors import RequestError
from serve_app.event_stream import EventStream
from serve_app.resume import Streams
from serve_app.resume.said import Said
from serve_app.services import Services

_JSON = "application/json"
AnswerId = Annotated[str, Path(max_length=128, description="The answer's `id`.")]
LastEventId = Annotated[str, Header(max_length=256, description="The last event's id.")]


def router(services: Services, streams: Streams) -> APIRouter:
    """Return the chat routes."""
    routes = APIRouter(tags=["chat"])
    served = services.serve.model_name
    started = int(time.time())

    @routes.get("/v1/models", summary="Models that chat completions take")
    async def models(request: Request) -> ModelList:
        await services.admit(request.headers)
        rag = Model(id=served, created=started, owned_by="isthmus")
        return ModelList(data=[rag, *await _answering(services)])

    @routes.post(
        "/v1/chat/completions",
        summary="Answer from the documents, with citations",
        response_model=None,
        responses={200: {"model": ChatAnswer, "content": {sse.MEDIA_TYPE: {}}}},
    )
    async def chat(request: Request, wanted: ChatRequest) -> Response:
        if headers.LAST_EVENT_ID in request.headers:
            return await resume(request)
        kept = _resumable(request.headers, wanted)
        if kept and streams.shared:
            wanted = _repeatable(wanted)
        key = await services.admit(request.headers)
        events = await _events(services, key, wanted, request.headers)
        answer, reply = await begun(events), Reply.to(wanted)
        if not wanted.stream:
            body = reply.whole(await _last(answer.events), answer.passages)
            return Response(body.model_dump_json(), media_type=_JSON)
        frames = reply.frames(answer)
        if kept and (reader := streams.keep(key.tenant, reply.id, frames, _asked(wanted, reply))):
            return EventStream(reader, {headers.RESUMABLE: f"{services.serve.resume_window_s:g}"})
        return EventStream(frames)

    @routes.get(
        "/v1/chat/completions/events",
        summary="The rest of a streamed answer",
        response_model=None,
        responses={200: {"content": {sse.MEDIA_TYPE: {}}}},
    )
    async def events(request: Request, last_event_id: LastEventId) -> Response:
        return await resume(request)

    @routes.delete(
        "/v1/chat/completions/{answer_id}",
        summary="Stop the work on a resumable answer",
        status_code=204,
    )
    async def stop(request: Request, answer_id: AnswerId) -> Response:
        key = await _reader(services, request.headers)
        await streams.stop(key.tenant, answer_id)
        return Response(status_code=204)

    async def resume(request: Request) -> Response:
        key = await _reader(services, request.headers)
        last = request.headers[headers.LAST_EVENT_ID]
        again = partial(_again, services, request.headers)
        return EventStream(await streams.resume(key.tenant, last, again))

    return routes


async def _reader(services: Services, sent: Mapping[str, str]) -> Key:
    """Return the key of a request about an answer that was asked for before, and counted then.

    Raises:
        RequestError: the key is unknown, or may not ask.
        UnavailableError: it is a token that cannot be checked now.
    """
    key = await services.identify(sent)
    key.check("ask", None)
    return key


def _repeatable(wanted: ChatRequest) -> ChatRequest:
    """Return the request with a seed, so that another replica comes to the same answer."""
    if wanted.seed is not None:
        return wanted
    return wanted.model_copy(update={"seed": secrets.randbits(31)})


def _asked(wanted: ChatRequest, reply: Reply) -> bytes:
    """Return what another replica needs to make an answer anew."""
    body = wanted.model_dump(mode="json", exclude_unset=True) | {"seed": wanted.seed}
    return json.dumps({"body": body, "reply": asdict(reply)}).encode()


async def _again(
    services: Services, sent: Mapping[str, str], asked: bytes, said: Said
) -> AsyncGenerator[bytes, None]:
    """Make an answer anew, by the rights of who reads it now; yield the frames that follow `said`.

    What fails is the last frame: an error.
    """
    kept = json.loads(asked)
    reply = Reply(**kept["reply"])
    try:
        key = await _reader(services, sent)
        wanted = ChatRequest.model_validate(kept["body"])
        answer = await begun(await _events(services, key, wanted, sent))
    except CodedError as error:
        yield b"id: %b.%d\n%b" % (reply.id.encode(), said.frames + 1, error_frame(error))
        return
    async with aclosing(reply.frames(answer, said)) as frames:
        async for frame in frames:
            yield frame


def _resumable(sent: Mapping[str, str], wanted: ChatRequest) -> bool:
    """Return whether a request asks for an answer that can be taken up again.

    Raises:
        RequestError: it does so by another word than "true", or for an answer in one piece.
    """
    given = sent.get(headers.RESUMABLE)
    if given is None:
        return False
    if given != "true" or not wanted.stream:
        message = f"The header {headers.RESUMABLE} has to be 'true', with \"stream\": true."
        raise RequestError(message, None, headers.RESUMABLE)
    return True


async def _events(
    services: Services, key: Key, wanted: ChatRequest, sent: Mapping[str, str]
) -> Events:
    """Return the answer to the holder of `key`: from the documents, or an LLM's own model's.

    "isthmus" answers from the documents with the model that the routing chooses,
    "isthmus/NAME" with the model of that name.

    Raises:
        RequestError: the key does not allow it, the model is unknown, or a field is wrong.
        LLMError: the LLM service does not say whether it has the model.
    """
    served = services.serve.model_name
    route, _, named = wanted.model.partition("/")
    if wanted.model == served or (route == served and named):
        key.check("ask", wanted.collection)
        asked = question(wanted, sent, key.tenant, named or None)
        return guard.ask(services, key, asked, hold=wanted.stream)
    key.check("ask", None)
    if not await services.llm.has(wanted.model):
        message = f"The model {wanted.model!r} does not exist; ask for {served!r}."
        raise RequestError(message, Code.MODEL_NOT_FOUND, "model")
    plain.check(wanted, served)
    return plain.answer(services, key, wanted, sent)


async def _answering(services: Services) -> list[Model]:
    """Return the LLM service's own models; none while it is down, as none would answer."""
    try:
        return await services.llm.models()
    except LLMError:
        return []


async def _last(events: Events) -> Answered:
    async with aclosing(events):
        async for event in events:
            if isinstance(event, Answered):
                return event
    raise RagError("The graph ended without an answer.")
