"""The OpenAPI document, from the same pydantic types that validate requests."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from contracts.errors import ErrorEnvelope
from contracts.openai import ChatCompletion, Completion, Model, ModelList
from llm_backend.api.types import ChatRequest, TextRequest, TokenizeRequest

_REF = "#/components/schemas/{model}"
_ERRORS = {
    "400": "The request is wrong; `param` names the field.",
    "401": "No or a wrong API key.",
    "404": "No such model.",
    "413": "The body is too large.",
    "503": "Not ready or full; come back after `Retry-After` seconds.",
    "504": "The deadline passed.",
}


@lru_cache(maxsize=1)
def document(model_id: str) -> dict[str, Any]:
    """Return the OpenAPI 3.1 description of the whole API, as served for one model."""
    requests = (ChatRequest, TextRequest, TokenizeRequest)
    responses = (ChatCompletion, Completion, Model, ModelList, ErrorEnvelope)
    _, schemas = models_json_schema(
        [(m, "validation") for m in requests] + [(m, "serialization") for m in responses],
        ref_template=_REF,
    )
    for request in requests:
        schemas["$defs"][request.__name__]["properties"]["model"] = {"const": model_id}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Isthmus LLM service", "version": "1"},
        "paths": _paths(),
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _paths() -> dict[str, Any]:
    return {
        "/v1/chat/completions": {"post": _post("chat", ChatRequest, ChatCompletion)},
        "/v1/completions": {"post": _post("complete", TextRequest, Completion)},
        "/tokenize": {"post": _post("tokenize", TokenizeRequest, None)},
        "/v1/models": {"get": _get("models", ModelList)},
        "/healthz": {"get": _get("healthz", None)},
        "/readyz": {"get": _get("readyz", None, "503")},
        "/metrics": {"get": _get("metrics", None, media="text/plain")},
    }


def _post(name: str, request: type[BaseModel], response: type[BaseModel] | None) -> dict[str, Any]:
    answer = _content("application/json", response)
    if response in (ChatCompletion, Completion):
        answer["text/event-stream"] = {"schema": {}}  # the chunks, then [DONE], which is no JSON
    failed = _content("application/json", ErrorEnvelope)
    return {
        "operationId": name,
        "security": [{}, {"key": []}],
        "requestBody": {"required": True, "content": _content("application/json", request)},
        "responses": {
            "200": {"description": "The answer.", "content": answer},
            **{s: {"description": text, "content": failed} for s, text in _ERRORS.items()},
        },
    }


def _get(
    name: str, response: type[BaseModel] | None, *also: str, media: str = "application/json"
) -> dict[str, Any]:
    content = _content(media, response)
    statuses = ("200", *also)
    return {
        "operationId": name,
        "responses": {s: {"description": "The answer.", "content": content} for s in statuses},
    }


def _content(media: str, model: type[BaseModel] | None) -> dict[str, Any]:
    return {media: {"schema": {"$ref": _REF.format(model=model.__name__)} if model else {}}}
