"""The API's description and the page that draws it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from serve_app.auth import Key, Keys
from serve_app.routes.docs import FILES


async def test_the_page_and_its_files_come_from_here(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "script-src 'self';" in page.headers["content-security-policy"]
    assert "//" not in page.text, "nothing of it comes from elsewhere"
    for name, kind in FILES.items():
        file = await client.get(f"/swagger/{name}")
        assert file.headers["content-type"].startswith(kind)
        assert len(file.content) > 100_000
    assert (await client.get("/swagger/redoc.standalone.js")).status_code == 404


class TestWithKeys:
    @pytest.fixture
    def keys(self) -> Keys:
        return Keys((Key(sha256="0" * 64, tenant="acme", rights={"ask"}, collections={"*"}),))

    async def test_the_description_says_how_a_key_is_sent(self, client: httpx.AsyncClient) -> None:
        described = await description(client)
        assert described["security"] == [{"key": []}]
        assert described["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
        own = {
            path: methods["get"]["security"]
            for path, methods in described["paths"].items()
            if "security" in methods.get("get", {})
        }
        assert own == {"/healthz": [], "/readyz": [], "/metrics": [{}, {"key": []}]}


async def test_where_no_key_is_asked_for_none_is_described(client: httpx.AsyncClient) -> None:
    described = await description(client)
    assert "security" not in described
    assert "securitySchemes" not in described["components"]
    assert "security" not in described["paths"]["/v1/search"]["post"]


async def description(client: httpx.AsyncClient) -> dict[str, Any]:
    found: dict[str, Any] = (await client.get("/openapi.json")).json()
    return found
