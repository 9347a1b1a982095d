"""Every route of the gateway, asked by one tenant for what is another's.

The table is held against the live routes: a new one without a case here fails.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx

from contracts.mock_llm import MockLLM
from rag_graph.graph import RagGraph
from rag_graph.llm.asgi_transport import StreamingASGITransport
from rag_graph.llm.client import LLMClient
from rag_graph.settings import RagSettings
from serve_app.api import create_api
from serve_app.auth import Keys
from serve_app.services import Services
from tests.unit.serve_app.conftest import Fakes
from tests.unit.serve_app.test_auth import key

RIGHTS = ["ask", "ingest", "admin"]
SECRET = "xylophone"
"""A word of acme's: in its question, its thread's name. zeta must never read it."""
THREAD = f"thread-{SECRET}"
QUESTION: dict[str, Any] = {
    "model": "isthmus",
    "messages": [{"role": "user", "content": f"Where is the {SECRET}?"}],
    "collection": "acme-docs",
}

Case = Callable[[httpx.AsyncClient, dict[str, str]], Awaitable[httpx.Response]]
"""Asks, with another tenant's headers, for what is acme's."""


def get(path: str) -> Case:
    return lambda client, sent: client.get(path, headers=sent)


def post(path: str, **body: Any) -> Case:
    return lambda client, sent: client.post(path, headers=sent, **body)


def delete(path: str) -> Case:
    return lambda client, sent: client.delete(path, headers=sent)


CASES: dict[str, tuple[Case, set[int]]] = {
    "GET /healthz": (get("/healthz"), {200}),
    "GET /readyz": (get("/readyz"), {200}),
    "GET /metrics": (get("/metrics"), {200}),
    "GET /v1/models": (get("/v1/models"), {200}),
    "GET /v1/collections": (get("/v1/collections"), {200}),
    "POST /v1/chat/completions": (
        post("/v1/chat/completions", json=QUESTION),
        {404},
    ),
    "GET /v1/chat/completions/events": (
        get("/v1/chat/completions/events"),  # all cases name acme's answer
        {404},
    ),
    "DELETE /v1/chat/completions/{answer_id}": (
        delete("/v1/chat/completions/chatcmpl-1"),
        {404},
    ),
    "POST /v1/search": (post("/v1/search", json={"query": "?", "collection": "acme-docs"}), {404}),
    "POST /v1/documents": (
        post("/v1/documents", files={"file": ("a.md", b"x")}, data={"collection": "acme-docs"}),
        {404},
    ),
    "GET /v1/documents": (get("/v1/documents?collection=acme-docs"), {404}),
    "GET /v1/documents/{document_id}": (get("/v1/documents/a?collection=acme-docs"), {404}),
    "DELETE /v1/documents/{document_id}": (delete("/v1/documents/a?collection=acme-docs"), {404}),
    "GET /v1/jobs": (get("/v1/jobs"), {200}),
    "GET /v1/jobs/{job_id}": (get("/v1/jobs/job-1"), {404}),
    "GET /v1/jobs/{job_id}/events": (get("/v1/jobs/job-1/events"), {404}),
    "DELETE /v1/jobs/{job_id}": (delete("/v1/jobs/job-1"), {404}),
    "POST /v1/collections": (post("/v1/collections", json={"name": "acme-docs"}), {404}),
    "GET /v1/collections/{name}": (get("/v1/collections/acme-docs"), {404}),
    "DELETE /v1/collections/{name}": (delete("/v1/collections/acme-docs"), {404}),
    "POST /v1/collections/{name}/re-embed": (
        post("/v1/collections/acme-docs/re-embed", json={"embedder": "e"}),
        {404},
    ),
    "POST /v1/collections/{name}/rollback": (post("/v1/collections/acme-docs/rollback"), {404}),
    "POST /v1/feedback": (
        post("/v1/feedback", json={"answer_id": "chatcmpl-1", "rating": "down"}),
        {204},  # of its own: what acme said of that answer stays
    ),
    "GET /v1/feedback": (get("/v1/feedback"), {200}),
    "GET /v1/threads": (get("/v1/threads"), {200}),
    "GET /v1/threads/{thread_id}": (get(f"/v1/threads/{THREAD}"), {404}),
    "DELETE /v1/threads/{thread_id}": (delete(f"/v1/threads/{THREAD}"), {404}),
}


@asynccontextmanager
async def gateway() -> AsyncIterator[httpx.AsyncClient]:
    """The routes over the real graph and its memory; acme and zeta have every right."""
    fakes, keys = Fakes(), Keys((key("acme", rights=RIGHTS), key("zeta", rights=RIGHTS)))
    llm = LLMClient("http://mock", transport=StreamingASGITransport(MockLLM()))
    graph = RagGraph(fakes.search, llm, RagSettings(min_evidence=0), fakes.memory)
    services = Services(**{**vars(fakes.services(keys)), "llm": llm, "answer": graph.answer})
    api = create_api(services)
    transport = httpx.ASGITransport(api)
    async with (
        api.router.lifespan_context(api),
        httpx.AsyncClient(transport=transport, base_url="http://gateway") as client,
    ):
        yield client
    await fakes.memory.aclose()


def of(tenant: str, **more: str) -> dict[str, str]:
    return {"authorization": f"Bearer {tenant}", **more}


async def prepare(client: httpx.AsyncClient) -> str:
    """Have acme ask in a thread, resumably; return the answer's id."""
    asked = {**QUESTION, "thread_id": THREAD, "stream": True}
    sent = of("acme", **{"x-isthmus-resumable": "true"})
    answer = await client.post("/v1/chat/completions", json=asked, headers=sent)
    assert answer.status_code == 200, answer.text
    upload = {"files": {"file": (f"{SECRET}.md", b"x")}, "data": {"collection": "acme-docs"}}
    job = await client.post("/v1/documents", headers=of("acme"), **upload)  # type: ignore[arg-type]
    assert job.json()["id"] == "job-1", job.text
    said = {"answer_id": "chatcmpl-1", "rating": "up", "comment": SECRET}
    rated = await client.post("/v1/feedback", json=said, headers=of("acme"))
    assert rated.status_code == 204, rated.text
    found = re.search(r"^id: (\S+)\.1$", answer.text, re.MULTILINE)
    assert found is not None
    return found[1]


async def test_every_route_has_a_case() -> None:
    async with gateway() as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    live = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert live == set(CASES), "give every route a case in CASES, and every case a route"


async def test_nothing_crosses_between_tenants() -> None:
    async with gateway() as client:
        answer_id = await prepare(client)
        for name, (case, statuses) in CASES.items():
            headers = of("zeta", **{"last-event-id": f"{answer_id}.0"})
            reply = await case(client, headers)
            assert reply.status_code in statuses, f"{name}: {reply.status_code} {reply.text}"
            assert SECRET not in reply.text.replace(THREAD, ""), f"{name} shows acme's words"
            assert "acme" not in reply.text.replace("acme-docs", ""), f"{name} names acme"
        listed = (await client.get("/v1/collections", headers=of("zeta"))).json()
        assert [one["name"] for one in listed["collections"]] == ["zeta-docs"]
        assert (await client.get("/v1/threads", headers=of("zeta"))).json() == {"threads": []}


async def test_their_owner_sees_all_of_it() -> None:
    async with gateway() as client:
        answer_id = await prepare(client)
        threads = await client.get("/v1/threads", headers=of("acme"))
        thread = await client.get(f"/v1/threads/{THREAD}", headers=of("acme"))
        assert THREAD in threads.text
        (job,) = (await client.get("/v1/jobs", headers=of("acme"))).json()["jobs"]
        assert (job["name"], job["status"]) == (f"{SECRET}.md", "queued")
        assert SECRET in thread.text
        headers = of("acme", **{"last-event-id": f"{answer_id}.0"})
        rest = await client.get("/v1/chat/completions/events", headers=headers)
        assert rest.text.endswith("data: [DONE]\n\n")
        (rated,) = (await client.get("/v1/feedback", headers=of("acme"))).json()["feedback"]
        assert (rated["rating"], rated["comment"]) == ("up", SECRET)
        assert (await client.delete(f"/v1/threads/{THREAD}", headers=of("acme"))).status_code == 204
