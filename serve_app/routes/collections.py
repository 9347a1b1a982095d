"""`/v1/collections`: where documents are, and what embeds them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from rag_graph.errors import CollectionNotFoundError
from serve_app.library import Library
from serve_app.routes.jobs import job_response
from serve_app.services import Services

Name = Annotated[str, Path(min_length=1, max_length=64, description="The collection's name.")]


class NewCollection(BaseModel):
    """A collection to make."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[
        str,
        Field(max_length=63, description="1 to 63 of a-z, 0-9, '-' and '_', not starting with -_"),
    ]
    embedder: Annotated[
        str | None, Field(max_length=256, description="What embeds it. None: the default one.")
    ] = None
    chunk_tokens: Annotated[
        int | None, Field(ge=32, le=8192, description="Longest chunk. None: RAG_CHUNK_TOKENS.")
    ] = None


class NewEmbedder(BaseModel):
    """The embedder that a collection shall have."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    embedder: Annotated[str, Field(min_length=1, max_length=256, description="Its name.")]


def router(services: Services) -> APIRouter:
    """Return the routes over collections. One that the key does not name is not found."""
    routes = APIRouter(tags=["collections"])
    library = services.library

    @routes.get("/v1/collections", summary="Collections that this key may search")
    async def collections(request: Request) -> dict[str, Any]:
        key = await services.admit(request.headers)
        names = [name for name in await services.collections() if key.sees(name)]
        return {"collections": await library.collections(names)}

    @routes.post("/v1/collections", summary="Make a collection", status_code=201)
    async def create(request: Request, wanted: NewCollection) -> dict[str, Any]:
        await services.authorize(request.headers, "ingest", wanted.name)
        await library.create_collection(wanted.name, wanted.embedder, wanted.chunk_tokens)
        return await _one(library, wanted.name)

    @routes.get("/v1/collections/{name}", summary="One collection")
    async def collection(request: Request, name: Name) -> dict[str, Any]:
        await services.authorize(request.headers, "ask", name)
        return await _one(library, name)

    @routes.delete("/v1/collections/{name}", summary="Delete a collection", status_code=204)
    async def delete(request: Request, name: Name) -> Response:
        await services.authorize(request.headers, "ingest", name)
        await library.delete_collection(name)
        return Response(status_code=204)

    @routes.post(
        "/v1/collections/{name}/re-embed",
        summary="Change the embedder, searches going on all the while",
        status_code=202,
        response_model=None,
    )
    async def re_embed(request: Request, name: Name, wanted: NewEmbedder) -> Response:
        key = await services.authorize(request.headers, "ingest", name)
        return job_response(await library.re_embed(key.tenant, name, wanted.embedder), 202)

    @routes.post(
        "/v1/collections/{name}/rollback",
        summary="Go back to the embedder before",
        status_code=202,
        response_model=None,
    )
    async def rollback(request: Request, name: Name) -> Response:
        key = await services.authorize(request.headers, "ingest", name)
        return job_response(await library.re_embed(key.tenant, name, ""), 202)

    return routes


async def _one(library: Library, name: str) -> dict[str, Any]:
    found = await library.collections([name])
    if not found:
        raise CollectionNotFoundError(
            f"There is no collection {name!r}; ingest a document into it first.", None, "collection"
        )
    return found[0]
