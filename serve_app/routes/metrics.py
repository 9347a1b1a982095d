"""`GET /metrics`: this replica's figures for Prometheus; by tenant too for admins."""

from __future__ import annotations

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from starlette.responses import Response

from serve_app.auth import ANY, Key
from serve_app.services import Services


def router(services: Services) -> APIRouter:
    """Return the route. Without a key it shows what belongs to no tenant."""
    routes = APIRouter(tags=["health"])

    @routes.get(
        "/metrics",
        summary="Figures of this replica, as Prometheus reads them",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}},
        openapi_extra={"security": [{}, {"key": []}]},  # it shows more to those who have one
    )
    async def metrics(request: Request) -> Response:
        key: Key | None = None
        if "authorization" in request.headers or not services.asks_for_keys:
            key = await services.identify(request.headers)
        shown = services.metrics.render(lambda tenant: key is not None and _shows(key, tenant))
        return Response(shown, media_type=CONTENT_TYPE_PLAIN_0_0_4)

    return routes


def _shows(key: Key, tenant: str) -> bool:
    """Whether `key` sees the figures of `tenant`: its own, or all if it reaches all collections."""
    return "admin" in key.rights and (tenant == key.tenant or ANY in key.collections)
