"""`GET /healthz` (this process) and `GET /readyz` (can a question be answered now)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from contracts import errors, headers
from contracts.errors import Code
from rag_graph.errors import RagError
from serve_app.errors import ServeAppError
from serve_app.routes.docs import ANYBODY
from serve_app.services import Check, Services

FRESH_S = 1.0
"""Seconds for which an answer of /readyz holds."""


def router(services: Services) -> APIRouter:
    """Return the health routes."""
    routes = APIRouter(tags=["health"])

    @routes.get("/healthz", summary="Is this gateway process alive?", openapi_extra=ANYBODY)
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    parts = _Parts(services.checks, services.serve.readiness_timeout_s)

    @routes.get(
        "/readyz",
        summary="Can a question be answered now?",
        response_model=None,
        openapi_extra=ANYBODY,
    )
    async def readyz() -> Response:
        return _readiness(await parts.states())

    return routes


class _Parts:
    """The parts that have to work. They are looked at once a second, however many ask: it takes a
    search and a request to the LLM service, and anybody may ask.
    """

    def __init__(self, checks: Mapping[str, Check], timeout_s: float) -> None:
        self._checks = checks
        self._timeout_s = timeout_s
        self._looking = asyncio.Lock()
        self._fresh_until = 0.0
        self._states: dict[str, str] = {}

    async def states(self) -> dict[str, str]:
        """Return by name "ok", or in one sentence why the part cannot do its work."""
        now = asyncio.get_running_loop().time
        async with self._looking:
            if now() >= self._fresh_until:
                found = (_state(check, self._timeout_s) for check in self._checks.values())
                states = await asyncio.gather(*found)
                self._states = dict(zip(self._checks, states, strict=True))
                self._fresh_until = now() + FRESH_S
        return self._states


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
