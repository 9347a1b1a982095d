"""`GET /docs`: the API, described by Swagger UI; its files come from a wheel, not from a CDN."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.responses import FileResponse, Response

from contracts.errors import Code
from serve_app.errors import RequestError
from serve_app.routes import page

SWAGGER = Path(str(files("fastapi_offline"))) / "static"
FILES = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
# Swagger UI sets styles of single elements, and has its icons as data.
HEADERS = page.headers(styles="'self' 'unsafe-inline'", images="'self' data:")

ANYBODY: dict[str, Any] = {"security": []}
"""`openapi_extra` of a route that asks for no key."""


class Api(FastAPI):
    """An application whose description says how a key is sent, where it asks for keys.

    As a dependency of the routes, FastAPI's own way, it would be resolved with every request.
    """

    def __init__(self, *, asks_for_keys: bool, **options: Any) -> None:
        super().__init__(**options)
        self._asks_for_keys = asks_for_keys

    def openapi(self) -> dict[str, Any]:
        """Return the description, made once."""
        if self.openapi_schema is None and self._asks_for_keys:
            described = super().openapi()
            scheme = {"type": "http", "scheme": "bearer", "description": "An API key, or a token."}
            described["components"]["securitySchemes"] = {"key": scheme}
            described["security"] = [{"key": []}]
        return super().openapi()


def router() -> APIRouter:
    """Return the routes of the page and of Swagger UI's files."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/docs")
    async def docs() -> Response:
        return FileResponse(page.FOLDER / "docs.html", media_type="text/html", headers=HEADERS)

    @routes.get("/swagger/{name}")
    async def file(name: str) -> Response:
        if name not in FILES:
            raise RequestError(f"There is nothing at /swagger/{name}.", Code.NOT_FOUND)
        return FileResponse(SWAGGER / name, media_type=FILES[name], headers=HEADERS)

    return routes
