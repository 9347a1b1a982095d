"""`/v1/feedback`: given by whoever may ask, read by the tenant's admins, kept on disk."""

from __future__ import annotations

import hashlib
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import pytest

from rag_graph.errors import MemoryStoreError
from serve_app.auth import Key, Keys
from serve_app.feedback import FeedbackStore
from tests.support.sqlite import connections_end

PATH = "/v1/feedback"


def key(name: str, tenant: str, *rights: str) -> Key:
    digest = hashlib.sha256(name.encode()).hexdigest()
    fields = {"sha256": digest, "tenant": tenant, "rights": rights, "collections": ["*"]}
    return Key.model_validate(fields)


@pytest.fixture
def keys() -> Keys:
    return Keys(
        (key("reader", "acme", "ask"), key("boss", "acme", "admin"), key("zeta", "zeta", "admin"))
    )


def by(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {name}"}


async def listed(client: httpx.AsyncClient, name: str, **query: Any) -> dict[str, Any]:
    found: dict[str, Any] = (await client.get(PATH, headers=by(name), params=query)).json()
    return found


async def test_an_admin_reads_what_its_tenant_said(client: httpx.AsyncClient) -> None:
    first = {"answer_id": "chatcmpl-1", "rating": "down", "comment": "Outdated."}
    second = {"answer_id": "chatcmpl-2", "rating": "up", "question": "?", "thread_id": "t"}
    for said in (first, second, {**first, "rating": "up"}):
        assert (await client.post(PATH, json=said, headers=by("reader"))).status_code == 204
    found = (await listed(client, "boss"))["feedback"]
    assert {one.pop("given")[:2] for one in found} == {"20"}
    assert sorted(found, key=lambda one: str(one["answer_id"])) == [
        {**first, "rating": "up"},
        second,
    ]
    page = await listed(client, "boss", limit=1, offset=1)
    assert (len(page["feedback"]), page["has_more"]) == (1, False)
    assert (await listed(client, "boss", limit=1))["has_more"] is True
    assert (await listed(client, "zeta")) == {"feedback": [], "has_more": False}


async def test_rights_are_kept(client: httpx.AsyncClient) -> None:
    said = {"answer_id": "a", "rating": "up"}
    assert (await client.get(PATH, headers=by("reader"))).status_code == 403
    assert (await client.post(PATH, json=said, headers=by("boss"))).status_code == 403
    assert (await client.post(PATH, json=said)).status_code == 401


@pytest.mark.parametrize(
    "wrong",
    [
        {"rating": "up"},
        {"answer_id": "a"},
        {"answer_id": "a/b", "rating": "up"},
        {"answer_id": "a", "rating": "5"},
        {"answer_id": "a", "rating": "up", "stars": 5},
        {"answer_id": "a", "rating": "up", "comment": "x" * 20_001},
    ],
)
async def test_what_is_wrong_is_refused(client: httpx.AsyncClient, wrong: dict[str, Any]) -> None:
    refused = await client.post(PATH, json=wrong, headers=by("reader"))
    assert refused.status_code in {400, 413}  # the last one is over the limit of a body, too


async def test_it_is_there_after_a_restart(tmp_path: Path) -> None:
    url = str(tmp_path / "folder" / "threads.sqlite")
    async with aclosing(FeedbackStore(url)) as store:
        await store.put("acme", "a", {"rating": "up"})
    async with aclosing(FeedbackStore(url)) as store:
        (found,) = await store.latest("acme", 10, 0)
        assert (found["answer_id"], found["rating"]) == ("a", "up")
        assert await store.latest("acm", 10, 0) == []


async def test_a_tenant_of_any_name_has_its_own(tmp_path: Path) -> None:
    tenants = ["acme.com", "acme", "acme.*", "*", "a%2Ecme", "a.cme", "Zürich 1"]
    async with aclosing(FeedbackStore(str(tmp_path / "threads.sqlite"))) as store:
        for tenant in tenants:
            await store.put(tenant, "a", {"comment": tenant})
        for tenant in tenants:
            assert [said["comment"] for said in await store.latest(tenant, 10, 0)] == [tenant]


async def test_a_database_that_fails_is_told_of(tmp_path: Path) -> None:
    store = FeedbackStore(str(tmp_path))  # a folder
    with pytest.raises(MemoryStoreError, match="RAG_MEMORY_URL"):
        await store.put("acme", "a", {"rating": "up"})
    await connections_end()
