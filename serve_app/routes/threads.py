"""`/v1/threads`: the conversations of the caller's tenant."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from serve_app.chat import THREAD_ID
from serve_app.services import Services

ThreadId = Annotated[str, Path(max_length=64, pattern=THREAD_ID, description="The thread's id.")]


def router(services: Services) -> APIRouter:
    """Return the routes over threads. Another tenant's thread is not found."""
    routes = APIRouter(tags=["threads"])

    @routes.get("/v1/threads", summary="Conversations, the latest first")
    async def threads(request: Request) -> dict[str, list[dict[str, Any]]]:
        key = await services.authorize(request.headers, "ask", None)
        found = await services.memory.threads(key.tenant)
        return {"threads": [asdict(thread) for thread in found]}

    @routes.get("/v1/threads/{thread_id}", summary="One conversation")
    async def thread(request: Request, thread_id: ThreadId) -> dict[str, Any]:
        key = await services.authorize(request.headers, "ask", None)
        found, said = await services.memory.messages(key.tenant, thread_id)
        return asdict(found) | {"messages": said}

    @routes.delete("/v1/threads/{thread_id}", summary="Forget a conversation", status_code=204)
    async def delete(request: Request, thread_id: ThreadId) -> Response:
        key = await services.authorize(request.headers, "ask", None)
        await services.memory.delete(key.tenant, thread_id)
        return Response(status_code=204)

    return routes
