"""`/v1/feedback`: what people thought of their answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from serve_app.chat import THREAD_ID
from serve_app.services import Services

Text = Annotated[str | None, Field(max_length=20_000)]


class Feedback(BaseModel):
    """What somebody thought of one answer."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={
            "examples": [{"answer_id": "chatcmpl-1f0c", "rating": "down", "comment": "Outdated."}]
        },
    )

    answer_id: Annotated[
        str,
        Field(min_length=1, max_length=128, pattern=r"^[\w-]+$", description="The answer's `id`."),
    ]
    rating: Literal["up", "down"]
    comment: Text = None
    thread_id: Annotated[str | None, Field(max_length=64, pattern=THREAD_ID)] = None
    question: Text = None
    answer: Text = None


def router(services: Services) -> APIRouter:
    """Return the routes over feedback: given by whoever may ask, read by the tenant's admins."""
    routes = APIRouter(tags=["feedback"])
    store = services.opinions

    @routes.post("/v1/feedback", summary="Rate an answer; a second time replaces", status_code=204)
    async def give(request: Request, given: Feedback) -> Response:
        key = await services.authorize(request.headers, "ask", None)
        said = given.model_dump(exclude={"answer_id"}, exclude_none=True)
        await store.put(key.tenant, given.answer_id, said)
        return Response(status_code=204)

    @routes.get("/v1/feedback", summary="Feedback of this tenant, the latest first")
    async def latest(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
    ) -> dict[str, Any]:
        key = await services.authorize(request.headers, "admin", None)
        found = await store.latest(key.tenant, limit + 1, offset)
        return {"feedback": found[:limit], "has_more": len(found) > limit}

    return routes
