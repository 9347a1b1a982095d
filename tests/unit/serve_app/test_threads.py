"""`/v1/threads` over a memory in this process."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import httpx
import pytest

from rag_graph.graph import RagGraph
from rag_graph.state import Question
from serve_app.auth import Key, Keys
from tests.unit.serve_app.conftest import Fakes


def key(tenant: str) -> Key:
    digest = hashlib.sha256(tenant.encode()).hexdigest()
    return Key(sha256=digest, tenant=tenant, rights=frozenset({"ask"}), collections=frozenset("*"))


@pytest.fixture
def keys() -> Keys:
    return Keys((key("acme"), key("zeta")))


@pytest.fixture
async def said(fakes: Fakes) -> AsyncIterator[None]:
    """One conversation of acme's, in which nothing was found."""
    services = fakes.services(Keys(()))

    async def nothing(_: object) -> list[object]:
        return []

    graph = RagGraph(nothing, services.llm, services.rag, fakes.memory)  # type: ignore[arg-type]
    async for _ in graph.answer(Question("Which taint?", tenant="acme", thread_id="t1")):
        pass
    yield
    await fakes.memory.aclose()


def by(tenant: str) -> dict[str, dict[str, str]]:
    return {"headers": {"authorization": f"Bearer {tenant}"}}


@pytest.mark.usefixtures("said")
async def test_a_conversation_is_listed_read_and_forgotten(client: httpx.AsyncClient) -> None:
    (listed,) = (await client.get("/v1/threads", **by("acme"))).json()["threads"]
    assert (listed["id"], listed["title"], listed["messages"]) == ("t1", "Which taint?", 2)
    read = (await client.get("/v1/threads/t1", **by("acme"))).json()
    assert [turn["role"] for turn in read["messages"]] == ["user", "assistant"]
    assert (await client.delete("/v1/threads/t1", **by("acme"))).status_code == 204
    assert (await client.get("/v1/threads/t1", **by("acme"))).status_code == 404
    assert (await client.delete("/v1/threads/t1", **by("acme"))).status_code == 404


@pytest.mark.usefixtures("said")
async def test_another_tenant_learns_nothing(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/threads", **by("zeta"))).json() == {"threads": []}
    theirs = await client.get("/v1/threads/t1", **by("zeta"))
    none = await client.get("/v1/threads/t2", **by("zeta"))
    assert theirs.status_code == none.status_code == 404
    assert theirs.text == none.text.replace("t2", "t1")
    assert (await client.delete("/v1/threads/t1", **by("zeta"))).status_code == 404
    assert (await client.get("/v1/threads/t1", **by("acme"))).status_code == 200
