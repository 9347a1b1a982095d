"""`POST /v1/chat/completions` and `GET /v1/models`, as OpenAI's clients speak them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import aclosing

from fastapi import APIRouter, Request
from starlette.responses import Response

from contracts import sse
from contracts.errors import Code
from contracts.openai import Model, ModelList
from rag_graph.errors import LLMError, RagError
from rag_graph.state import Answered
from serve_app import guard, plain
from serve_app.chat import ChatAnswer, ChatRequest, Events, Reply, begun, question
from serve_app.errors import RequestError
from serve_app.event_stream import EventStream
from serve_app.services import Services

_JSON = "application/json"


def router(services: Services) -> APIRouter:
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
        answer = await begun(await _events(services, wanted, request.headers))
        reply = Reply.to(wanted)
        if wanted.stream:
            return EventStream(reply.frames(answer))
        body = reply.whole(await _last(answer.events), answer.passages)
        return Response(body.model_dump_json(), media_type=_JSON)

    return routes


async def _events(services: Services, wanted: ChatRequest, sent: Mapping[str, str]) -> Events:
    """Return the answer to `wanted`: from the documents, or from one of the LLM's own models.

    "isthmus" answers from the documents with the model that the routing chooses,
    "isthmus/NAME" with the model of that name.

    Raises:
        RequestError: the key does not allow it, the model is unknown, or a field is wrong.
    """
    served = services.serve.model_name
    route, _, named = wanted.model.partition("/")
    if wanted.model == served or (route == served and named):
        key = await services.authorize(sent, "ask", wanted.collection)
        return guard.ask(services, key, question(wanted, sent, key.tenant, named or None))
    key = await services.authorize(sent, "ask", None)
    known = [model.id for model in await _llm_models(services)]
    if wanted.model not in known:
        message = f"The model {wanted.model!r} does not exist; ask for {served!r}."
        raise RequestError(message, Code.MODEL_NOT_FOUND, "model")
    plain.check(wanted, served)
    return plain.answer(services, key, wanted, sent)


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
