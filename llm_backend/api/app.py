"""The ASGI application: the routes. Errors are raised here and answered by `api.edge`."""

from __future__ import annotations

from functools import partial
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp

from contracts import errors
from contracts.openai import Model, ModelList
from llm_backend.api import health, prepare
from llm_backend.api.edge import Edge
from llm_backend.api.openapi import document
from llm_backend.api.responses import (
    BodyAnswer,
    StreamAnswer,
    json_response,
)
from llm_backend.api.service import Service
from llm_backend.api.types import ChatRequest, TextRequest, TokenizeRequest
from llm_backend.errors import InvalidBodyError, UnsupportedFieldError

_RequestT = TypeVar("_RequestT", bound=BaseModel)


def create_app(service: Service) -> ASGIApp:
    """Return the application that serves `service`."""
    routes = _Routes(service)
    router = Router(
        [
            Route("/v1/chat/completions", routes.chat, methods=["POST"]),
            Route("/v1/completions", routes.complete, methods=["POST"]),
            Route("/v1/embeddings", routes.embeddings, methods=["POST"]),
            Route("/v1/models", routes.models),
            Route("/v1/models/{model:path}", routes.model),
            Route("/tokenize", routes.tokenize, methods=["POST"]),
            Route("/healthz", routes.healthz),
            Route("/readyz", routes.readyz),
            Route("/metrics", routes.metrics),
            Route("/openapi.json", routes.openapi),
        ]
    )
    return Edge(router, service)


class _Routes:
    def __init__(self, service: Service) -> None:
        self._service = service

    async def chat(self, request: Request) -> Response:
        with self._service.metrics.refusals():
            wanted, size = await _parse(request, ChatRequest)
            exchange = await self._service.chat(wanted, request.headers, size)
        if wanted.stream:
            return StreamAnswer(exchange.frames(include_usage=wanted.include_usage))
        return BodyAnswer(exchange.body())

    async def complete(self, request: Request) -> Response:
        with self._service.metrics.refusals():
            wanted, size = await _parse(request, TextRequest)
            exchange = await self._service.complete(wanted, request.headers, size)
        if wanted.stream:
            return StreamAnswer(exchange.frames(include_usage=wanted.include_usage))
        return BodyAnswer(exchange.body())

    async def embeddings(self, _: Request) -> Response:
        raise UnsupportedFieldError(
            "This service generates text and has no embeddings; the retrieval side embeds in its "
            "own process."
        )

    async def tokenize(self, request: Request) -> Response:
        wanted, size = await _parse(request, TokenizeRequest)
        self._service.check_model(wanted.model)
        tokens = await self._service.texts.work(partial(self._tokens, wanted), size)
        return json_response(health.dump(tokens))

    def _tokens(self, wanted: TokenizeRequest) -> dict[str, object]:
        tokenizer = self._service.need_tokenizer()
        if wanted.prompt is not None:
            ids = tokenizer.encode(wanted.prompt, special_tokens=wanted.add_special_tokens)
        else:
            ids = prepare.chat_prompt(wanted.messages or [], tokenizer)
        ready = self._service.dispatcher.ready
        return {
            "tokens": ids,
            "count": len(ids),
            "max_model_len": ready.max_model_len if ready else None,
        }

    async def models(self, _: Request) -> Response:
        return json_response(ModelList(data=[self._model()]).model_dump_json())

    async def model(self, request: Request) -> Response:
        self._service.check_model(request.path_params["model"])
        return json_response(self._model().model_dump_json())

    async def healthz(self, _: Request) -> Response:
        return json_response(b'{"status": "ok"}')

    async def readyz(self, _: Request) -> Response:
        return health.readiness(self._service)

    async def metrics(self, _: Request) -> Response:
        service = self._service
        text = service.metrics.render(service.supervisor.status, service.dispatcher.stats)
        return Response(text, media_type="text/plain; version=1.0.0; charset=utf-8")

    async def openapi(self, _: Request) -> Response:
        return json_response(health.dump(document(self._service.settings.model_id)))

    def _model(self) -> Model:
        ready = self._service.dispatcher.ready
        return Model(
            id=self._service.settings.model_id,
            created=self._service.created,
            owned_by="isthmus",
            max_model_len=ready.max_model_len if ready else None,
        )


async def _parse(request: Request, kind: type[_RequestT]) -> tuple[_RequestT, int]:
    """Return what the body asks for, and its bytes."""
    body = await request.body()
    try:
        return kind.model_validate_json(body), len(body)
    except ValidationError as error:
        found = errors.from_validation_error(error)
        raise InvalidBodyError(found.code, found.message, found.param) from None
