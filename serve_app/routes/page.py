"""`GET /`: the chat page and its files, under a strict Content-Security-Policy."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse, Response

from contracts.errors import Code
from serve_app.errors import RequestError

FOLDER = Path(__file__).parents[1] / "ui"
SCRIPTS = ("app", "api", "docs", "dom", "library", "markdown", "passage", "threads", "turn")
FILES = {
    **{f"{name}.js": "text/javascript" for name in SCRIPTS},
    "style.css": "text/css",
    "icon.svg": "image/svg+xml",
}


def headers(styles: str = "'self'", images: str = "'self'") -> dict[str, str]:
    """Return what a page and its files come with, given where styles and images may come from."""
    policy = (
        f"default-src 'none'; script-src 'self'; style-src {styles}; img-src {images}; "
        "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
    return {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cache-control": "no-cache",
    }


HEADERS = headers()


def router() -> APIRouter:
    """Return the page's routes."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/")
    async def page() -> Response:
        return _file("index.html", "text/html")

    @routes.get("/ui/{name}")
    async def file(name: str) -> Response:
        if name not in FILES:
            raise RequestError(f"There is nothing at /ui/{name}.", Code.NOT_FOUND)
        return _file(name, FILES[name])

    return routes


def _file(name: str, media_type: str) -> Response:
    return FileResponse(FOLDER / name, media_type=media_type, headers=HEADERS)
