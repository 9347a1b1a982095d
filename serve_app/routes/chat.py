"""`POST /v1/chat/completions` and `GET /v1/models`, as OpenAI's clients speak them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Header, Path, Request
from starlette.responses import Response

from contracts import headers, sse
from contracts.errors import Code
from contracts.openai import Model, ModelList
from rag_graph.errors import LLMError, RagError
from rag_graph.state import Answered
from serve_app import guard, plain
from serve_app.chat import ChatAnswer, ChatRequest, Events, Reply, begun, question
from serve_app.errors import RequestError
from serve_app.event_stream import EventStream
from serve_app.resume import Streams
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
        await services.identify(request.headers)
        rag = Model(id=served, created=started, owned_by="isthmus")
        return ModelList(data=[rag, *await _llm_models(services)])

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
        tenant, events = await _events(services, wanted, request.headers)
        answer, reply = await begun(events), Reply.to(wanted)
        if not wanted.stream:
            body = reply.whole(await _last(answer.events), answer.passages)
            return Response(body.model_dump_json(), media_type=_JSON)
        frames = reply.frames(answer)
        if kept and (reader := streams.keep(tenant, reply.id, frames)):
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
        key = await services.authorize(request.headers, "ask", None)
        await streams.stop(key.tenant, answer_id)
        return Response(status_code=204)

    async def resume(request: Request) -> Response:
        key = await services.authorize(request.headers, "ask", None)
        return EventStream(await streams.resume(key.tenant, request.headers[headers.LAST_EVENT_ID]))

    return routes


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
    services: Services, wanted: ChatRequest, sent: Mapping[str, str]
) -> tuple[str, Events]:
    """Return the asking tenant and the answer: from the documents, or from an LLM's own model.

    "isthmus" answers from the documents with the model that the routing chooses,
    "isthmus/NAME" with the model of that name.

    Raises:
        RequestError: the key does not allow it, the model is unknown, or a field is wrong.
    """
    served = services.serve.model_name
    route, _, named = wanted.model.partition("/")
    if wanted.model == served or (route == served and named):
        key = await services.authorize(sent, "ask", wanted.collection)
        asked = question(wanted, sent, key.tenant, named or None)
        return key.tenant, guard.ask(services, key, asked, hold=wanted.stream)
    key = await services.authorize(sent, "ask", None)
    known = [model.id for model in await _llm_models(services)]
    if wanted.model not in known:
        message = f"The model {wanted.model!r} does not exist; ask for {served!r}."
        raise RequestError(message, Code.MODEL_NOT_FOUND, "model")
    plain.check(wanted, served)
    return key.tenant, plain.answer(services, key, wanted, sent)


async def _llm_models(services: Services) -> list[Model]:
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
