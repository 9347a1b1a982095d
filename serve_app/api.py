"""The HTTP surface of the gateway, as a plain FastAPI application over `Services`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from contracts.errors import ErrorEnvelope
from serve_app import responses
from serve_app.middleware import BodyLimit, Counted, SameOrigin
from serve_app.resume import Streams
from serve_app.routes import (
    chat,
    collections,
    docs,
    documents,
    feedback,
    health,
    jobs,
    mcp,
    metrics,
    page,
    search,
    threads,
)
from serve_app.services import Services

MULTIPART_OVERHEAD_BYTES = 64 * 1024
"""Room for the boundaries and other fields around an uploaded document."""


def create_api(services: Services) -> FastAPI:
    """Return the gateway's application."""
    mcp_endpoint, streams = mcp.Endpoint(services), Streams(services.serve)

    @asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[None]:
        async with (
            mcp_endpoint.lifespan(api),
            aclosing(streams),
            aclosing(services.opinions),
            aclosing(services.memory),
            aclosing(services.limiter),
        ):
            yield

    api = docs.Api(
        asks_for_keys=services.asks_for_keys,
        lifespan=lifespan,
        title="Isthmus",
        version=version("isthmus"),
        summary="Answers from your documents, with citations, behind OpenAI's API.",
        docs_url=None,
        redoc_url=None,
        responses={"4XX": {"model": ErrorEnvelope}, "5XX": {"model": ErrorEnvelope}},
    )
    api.include_router(chat.router(services, streams))
    api.include_router(feedback.router(services))
    for module in (search, documents, jobs, collections, threads, health, metrics):
        api.include_router(module.router(services))
    api.include_router(page.router())
    api.include_router(docs.router())
    mcp_endpoint.add_to(api)
    responses.install(api)
    api.add_middleware(
        BodyLimit,
        json_bytes=services.serve.max_request_bytes,
        upload_bytes=services.rag.max_document_bytes + MULTIPART_OVERHEAD_BYTES,
        patience_s=services.serve.body_timeout_s,
    )
    api.add_middleware(SameOrigin)
    api.add_middleware(Counted, metrics=services.metrics)
    return api
