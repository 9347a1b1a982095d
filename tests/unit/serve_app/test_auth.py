"""API keys: who may do what, on every route."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_app.auth import Key, Keys, load
from serve_app.errors import SettingsError
from tests.unit.serve_app.conftest import Fakes

ASK = {"model": "isthmus", "messages": [{"role": "user", "content": "?"}]}
OPEN = {"/", "/ui/{name}", "/healthz", "/readyz", "/metrics"}
"""What needs no key: the page asks for one itself, and probes have none."""


def key(secret: str, **changes: Any) -> Key:
    given = {
        "sha256": hashlib.sha256(secret.encode()).hexdigest(),
        "tenant": secret,
        "rights": ["ask", "ingest"],
        "collections": [f"{secret}-docs"],
    }
    return Key.model_validate({**given, **changes})


@pytest.fixture
def keys() -> Keys:
    return Keys((key("acme"), key("zeta"), key("reader", rights=["ask"], collections=["*"])))


async def call(client: httpx.AsyncClient, path: str, secret: str, collection: str) -> int:
    """Send a request that is right but for who sends it, and return its status."""
    sent = {"headers": {"authorization": f"Bearer {secret}"} if secret else {}}
    if path == STOP:
        return (await client.delete(path.format(answer_id="x"), **sent)).status_code
    if path == RESUME:
        sent["headers"]["last-event-id"] = "x.1"
    if path in {*LISTS, RESUME}:
        return (await client.get(path.format(thread_id="t1"), **sent)).status_code
    if path == "/v1/documents":
        form = {"data": {"collection": collection}, "files": {"file": ("a.md", b"text")}}
        return (await client.post(path, **form, **sent)).status_code  # type: ignore[arg-type]
    body = ASK if path == "/v1/chat/completions" else {"query": "?"}
    return (await client.post(path, json={**body, "collection": collection}, **sent)).status_code


LISTS = ["/v1/models", "/v1/collections", "/v1/threads", "/v1/threads/{thread_id}", "/v1/feedback"]
RESUME = "/v1/chat/completions/events"
STOP = "/v1/chat/completions/{answer_id}"
ROUTES = ["/v1/chat/completions", "/v1/search", "/v1/documents"]


@pytest.mark.parametrize("path", [*ROUTES, *LISTS, RESUME, STOP])
@pytest.mark.parametrize("secret", ["", "forged", "acm", "acme "])
async def test_without_a_known_key_no_route_answers(
    client: httpx.AsyncClient, path: str, secret: str
) -> None:
    known = secret.strip() == "acme"  # white space around a key is not a part of it
    assert (await call(client, path, secret, "acme-docs") == 401) is not known


@pytest.mark.parametrize("secret", ["", "forged"])
async def test_agents_need_a_key_too(client: httpx.AsyncClient, secret: str) -> None:
    sent = await client.post("/mcp", json={}, headers={"authorization": f"Bearer {secret}"})
    assert sent.status_code == 401
    assert sent.headers["www-authenticate"] == "Bearer"


async def test_every_route_is_covered_here(client: httpx.AsyncClient) -> None:
    described = (await client.get("/openapi.json")).json()["paths"]
    assert set(described) - OPEN == {*ROUTES, *LISTS, RESUME, STOP}


@pytest.mark.parametrize("path", ROUTES)
async def test_a_tenant_reaches_its_own_collections_and_no_others(
    client: httpx.AsyncClient, fakes: Fakes, path: str
) -> None:
    assert await call(client, path, "acme", "acme-docs") in {200, 201}
    seen = len(fakes.questions) + len(fakes.queries) + len(fakes.documents)
    for other in ("zeta-docs", "absent", "default", "*"):
        assert await call(client, path, "acme", other) == 404
    assert len(fakes.questions) + len(fakes.queries) + len(fakes.documents) == seen == 1


async def test_a_tenant_sees_its_own_collections_only(client: httpx.AsyncClient) -> None:
    for secret, names in (
        ("acme", ["acme-docs"]),
        ("reader", ["acme-docs", "default", "zeta-docs"]),
    ):
        headers = {"authorization": f"Bearer {secret}"}
        found = (await client.get("/v1/collections", headers=headers)).json()["collections"]
        assert [one["name"] for one in found] == names


async def test_rights_are_kept(client: httpx.AsyncClient) -> None:
    assert await call(client, "/v1/search", "reader", "anything") == 200
    assert await call(client, "/v1/documents", "reader", "anything") == 403


def test_keys_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [key("acme").model_dump(mode="json")]}))
    assert load(path).of({"authorization": "Bearer acme"}).tenant == "acme"


@pytest.mark.parametrize(
    ("content", "said"),
    [("{", "JSON"), ('{"keys": []}', "no keys"), ('{"keys": [{"sha256": "x"}]}', "keys[0]")],
)
def test_a_wrong_file_is_refused(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(content)
    with pytest.raises(SettingsError) as refused:
        load(path)
    assert said in str(refused.value)
    assert str(path) in str(refused.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        load(tmp_path / "absent.json")


async def test_pages_of_other_sites_cannot_write(client: httpx.AsyncClient, fakes: Fakes) -> None:
    files = {"file": ("a.md", b"text")}
    data = {"collection": "acme-docs"}
    for origin, status in (("https://evil.example", 403), ("null", 403), ("http://gateway", 201)):
        headers = {"origin": origin, "authorization": "Bearer acme"}
        sent = await client.post("/v1/documents", files=files, data=data, headers=headers)
        assert sent.status_code == status
    assert len(fakes.documents) == 1
