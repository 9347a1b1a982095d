"""`POST /v1/search`: the passages alone, without an answer. `GET /v1/collections`: where."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from contracts.openai import Text
from rag_graph.state import DEFAULT_COLLECTION, SearchQuery
from serve_app.services import Services

MAX_TOP_K = 100
Collection = Annotated[str, Field(min_length=1, max_length=64, description="Collection to search.")]
TopK = Annotated[
    int | None, Field(ge=1, le=MAX_TOP_K, description="Passages wanted; null: RAG_TOP_K.")
]


class Filters(BaseModel):
    """Exact values that a passage's document must have."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Text | None = None
    title: Text | None = None

    def given(self) -> dict[str, str]:
        """Return the values that are set, by field."""
        return self.model_dump(exclude_none=True)


class SearchRequest(BaseModel):
    """What to look for."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={"examples": [{"query": "taint of the GPU node pools", "top_k": 3}]},
    )

    query: Annotated[str, Field(min_length=1, description="Words or a question.")]
    collection: Collection = DEFAULT_COLLECTION
    top_k: TopK = None
    filters: Filters = Filters()


def router(services: Services) -> APIRouter:
    """Return the route that searches."""
    routes = APIRouter(tags=["retrieval"])

    @routes.post("/v1/search", summary="Find passages", response_model=None)
    async def search(request: Request, wanted: SearchRequest) -> Response:
        await services.authorize(request.headers, "ask", wanted.collection)
        query = SearchQuery(wanted.query, wanted.collection, wanted.top_k, wanted.filters.given())
        passages = await services.search(query)
        return JSONResponse({"passages": [asdict(passage) for passage in passages]})

    return routes
