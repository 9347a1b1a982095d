"""`GET /healthz` (this process) and `GET /readyz` (can a question be answered now)."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from contracts import errors, headers
from contracts.errors import Code
from rag_graph.errors import RagError
from serve_app.errors import ServeAppError
from serve_app.services import Check, Services


def router(services: Services) -> APIRouter:
    """Return the health routes."""
    routes = APIRouter(tags=["health"])

    @routes.get("/healthz", summary="Is this gateway process alive?")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @routes.get("/readyz", summary="Can a question be answered now?", response_model=None)
    async def readyz() -> Response:
        timeout = services.serve.readiness_timeout_s
        states = await asyncio.gather(*(_state(c, timeout) for c in services.checks.values()))
        return _readiness(dict(zip(services.checks, states, strict=True)))

    return routes


async def _state(check: Check, timeout_s: float) -> str:
    """Return "ok", or in one sentence why the part cannot do its work."""
    try:
        async with asyncio.timeout(timeout_s):
            await check()
    except TimeoutError:
        return f"No answer within {timeout_s:g} s."
    except (RagError, ServeAppError) as error:
        return str(error)
    return "ok"


def _readiness(states: dict[str, str]) -> Response:
    content: dict[str, Any] = {"status": "ok", "checks": states}
    failed = [name for name, state in states.items() if state != "ok"]
    if not failed:
        return JSONResponse(content)
    message = f"Not ready: {'; '.join(f'{name}: {states[name]}' for name in failed)}"
    content |= {"status": "not_ready"} | errors.envelope(Code.NOT_READY, message).model_dump()
    return JSONResponse(content, 503, headers={headers.RETRY_AFTER: "1"})
