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


WHERE = {
    "/v1/chat/completions": ("POST", "ask"),
    "/v1/search": ("POST", "ask"),
    "/v1/documents": ("POST", "ingest"),
    "/v1/documents?": ("GET", "ask"),
    "/v1/documents/{document_id}": ("GET", "ask"),
    "/v1/documents/{document_id}?": ("DELETE", "ingest"),
    "/v1/collections": ("POST", "ingest"),
    "/v1/collections/{name}": ("GET", "ask"),
    "/v1/collections/{name}?": ("DELETE", "ingest"),
    "/v1/collections/{name}/re-embed": ("POST", "ingest"),
    "/v1/collections/{name}/rollback": ("POST", "ingest"),
}
"""Routes over a collection, with the right they need; "?" tells a path's second method."""
LISTS = {
    "/v1/models": "GET",
    "/v1/collections?": "GET",
    "/v1/threads": "GET",
    "/v1/threads/{thread_id}": "GET",
    "/v1/threads/{thread_id}?": "DELETE",
    "/v1/jobs": "GET",
    "/v1/jobs/{job_id}": "GET",
    "/v1/jobs/{job_id}?": "DELETE",
    "/v1/jobs/{job_id}/events": "GET",
    "/v1/chat/completions/events": "GET",
    "/v1/chat/completions/{answer_id}": "DELETE",
    "/v1/feedback": "GET",
}
"""Routes over what is the tenant's own."""
ELSEWHERE = {("/v1/feedback", "POST")}
"""Routes whose keys are tested in their own module."""


async def call(client: httpx.AsyncClient, path: str, secret: str, collection: str) -> int:
    """Send a request that is right but for who sends it, and return its status."""
    method = LISTS.get(path) or WHERE[path][0]
    values = {"thread_id": "t1", "job_id": "j1", "document_id": "a", "answer_id": "x"}
    values["name"] = collection
    sent: dict[str, Any] = {"headers": {"authorization": f"Bearer {secret}"} if secret else {}}
    if path == "/v1/chat/completions/events":
        sent["headers"] = {**sent["headers"], "last-event-id": "x.1"}
    if path == "/v1/documents":
        sent |= {"data": {"collection": collection}, "files": {"file": ("a.md", b"text")}}
    elif path.startswith("/v1/documents"):
        sent["params"] = {"collection": collection}
    elif method == "POST":
        sent["json"] = _body(path, collection)
    url = path.rstrip("?").format(**values)
    return (await client.request(method, url, **sent)).status_code


def _body(path: str, collection: str) -> dict[str, Any] | None:
    return {
        "/v1/chat/completions": {**ASK, "collection": collection},
        "/v1/search": {"query": "?", "collection": collection},
        "/v1/collections": {"name": collection},
        "/v1/collections/{name}/re-embed": {"embedder": "e"},
    }.get(path)


@pytest.mark.parametrize("path", [*WHERE, *LISTS])
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
    methods = {
        (path, method.upper())
        for path, some in described.items()
        for method in some
        if path not in OPEN
    }
    here = {path: method for path, (method, _) in WHERE.items()} | LISTS
    assert methods - ELSEWHERE == {(path.rstrip("?"), method) for path, method in here.items()}


@pytest.mark.parametrize("path", WHERE)
async def test_a_tenant_reaches_its_own_collections_and_no_others(
    client: httpx.AsyncClient, fakes: Fakes, path: str
) -> None:
    wanted = {200, 201, 202, 204} if path != "/v1/collections" else {409}  # it is there
    assert await call(client, path, "acme", "acme-docs") in wanted
    seen = fakes.touched()
    for other in ("zeta-docs", "absent", "default", "*"):
        assert await call(client, path, "acme", other) == 404
    assert fakes.touched() == seen


async def test_a_tenant_sees_its_own_collections_only(client: httpx.AsyncClient) -> None:
    for secret, names in (
        ("acme", ["acme-docs"]),
        ("reader", ["acme-docs", "default", "zeta-docs"]),
    ):
        headers = {"authorization": f"Bearer {secret}"}
        found = (await client.get("/v1/collections", headers=headers)).json()["collections"]
        assert [one["name"] for one in found] == names


@pytest.mark.parametrize("path", WHERE)
async def test_rights_are_kept(client: httpx.AsyncClient, path: str) -> None:
    allowed = WHERE[path][1] == "ask"
    status = await call(client, path, "reader", "default")
    assert (status == 200) if allowed else (status == 403)


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
    for origin, status in (("https://evil.example", 403), ("null", 403), ("http://gateway", 202)):
        headers = {"origin": origin, "authorization": "Bearer acme"}
        sent = await client.post("/v1/documents", files=files, data=data, headers=headers)
        assert sent.status_code == status
    assert len(fakes.library.submitted) == 1
