"""Documents, jobs and collections over a library in memory."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import httpx
import pytest

from contracts.sse import Decoder
from rag_graph.errors import BusyError, StoreError
from serve_app.auth import Key, Keys
from tests.unit.serve_app.conftest import Fakes

FILE = {"file": ("notes/a.md", b"# A\n\nText.")}
FIELDS = {
    "id",
    "object",
    "kind",
    "name",
    "collection",
    "status",
    "chunks_done",
    "chunks_total",
    "eta_s",
    "result",
    "error",
    "document_id",
    "created_at",
    "updated_at",
}


def key(tenant: str, secret: str, *collections: str) -> Key:
    digest = hashlib.sha256(secret.encode()).hexdigest()
    rights: Any = {"ask", "ingest"}
    return Key(sha256=digest, tenant=tenant, rights=rights, collections=frozenset(collections))


@pytest.fixture
def keys() -> Keys:
    acme = key("acme", "acme", "acme-docs", "default")
    return Keys((acme, key("acme", "narrow", "default"), key("zeta", "zeta", "*")))


@pytest.fixture
async def acme(client: httpx.AsyncClient) -> httpx.AsyncClient:
    client.headers["authorization"] = "Bearer acme"
    return client


async def test_an_upload_is_answered_by_its_job(acme: httpx.AsyncClient, fakes: Fakes) -> None:
    sent = await acme.post("/v1/documents", files=FILE, data={"collection": "acme-docs"})
    job = sent.json()
    assert (sent.status_code, sent.headers["location"]) == (202, f"/v1/jobs/{job['id']}")
    assert job.keys() == FIELDS
    assert (job["object"], job["status"], job["name"]) == (
        "ingestion.job",
        "queued",
        "notes/a.md",
    )
    assert fakes.library.submitted == [("notes/a.md", b"# A\n\nText.", "acme-docs")]


async def test_an_upload_can_wait_for_its_end(acme: httpx.AsyncClient, fakes: Fakes) -> None:
    fakes.library.ends = {"status": "failed", "error": "It is broken.", "error_code": "x"}
    sent = await acme.post("/v1/documents?wait=5", files=FILE)
    assert (sent.status_code, sent.json()["status"]) == (200, "failed")
    assert sent.json()["error"] == {"message": "It is broken.", "code": "x"}
    assert (await acme.post("/v1/documents?wait=61", files=FILE)).status_code == 400


async def test_a_full_line_says_when_to_come_back(acme: httpx.AsyncClient, fakes: Fakes) -> None:
    fakes.library.failure = BusyError("Many jobs wait.", None, None, 7.2)
    sent = await acme.post("/v1/documents", files=FILE)
    assert (sent.status_code, sent.headers["retry-after"]) == (503, "8")


async def _frames(client: httpx.AsyncClient, job_id: str) -> list[dict[str, Any]]:
    got = await client.get(f"/v1/jobs/{job_id}/events")
    assert got.headers["content-type"].startswith("text/event-stream")
    return [json.loads(event.data) for event in Decoder().feed(got.content)]


async def test_progress_is_streamed_until_the_job_has_ended(acme: httpx.AsyncClient) -> None:
    job = (await acme.post("/v1/documents", files=FILE)).json()
    frames = await _frames(acme, job["id"])
    assert [frame["status"] for frame in frames] == ["queued", "embedding", "done"]
    assert [frame["chunks_done"] for frame in frames] == [0, 1, 2]
    assert await _frames(acme, job["id"]) == frames[-1:]


async def test_a_stream_whose_source_fails_says_so(acme: httpx.AsyncClient, fakes: Fakes) -> None:
    job = (await acme.post("/v1/documents", files=FILE)).json()
    fakes.library.failure = StoreError("The store is gone.")
    last = (await _frames(acme, job["id"]))[-1]
    assert last["error"]["message"] == "The store is gone."


async def test_jobs_are_listed_read_and_cancelled(acme: httpx.AsyncClient) -> None:
    job = (await acme.post("/v1/documents", files=FILE)).json()
    assert (await acme.get("/v1/jobs")).json() == {"jobs": [job], "has_more": False}
    assert (await acme.get(f"/v1/jobs/{job['id']}")).json() == job
    gone = await acme.delete(f"/v1/jobs/{job['id']}")
    assert (gone.status_code, gone.json()["status"]) == (200, "cancelled")
    assert (await acme.get("/v1/jobs?active=true")).json()["jobs"] == []
    assert (await acme.get(f"/v1/jobs/{job['id']}?wait=1")).json()["status"] == "done"


@pytest.mark.parametrize("secret", ["zeta", "narrow"])
async def test_a_job_of_another_tenant_or_collection_is_not_found(
    acme: httpx.AsyncClient, secret: str
) -> None:
    form = {"collection": "acme-docs"}
    job = (await acme.post("/v1/documents", files=FILE, data=form)).json()
    other = {"authorization": f"Bearer {secret}"}
    assert (await acme.get("/v1/jobs", headers=other)).json()["jobs"] == []
    for path, method in (("", "GET"), ("", "DELETE"), ("/events", "GET")):
        url = f"/v1/jobs/{job['id']}{path}"
        answers = [await acme.request(method, u, headers=other) for u in (url, f"/v1/jobs/x{path}")]
        assert [a.status_code for a in answers] == [404, 404]
        said = [a.json()["error"]["message"] for a in answers]
        assert said[0].replace(job["id"], "x") == said[1]
    assert (await acme.get(f"/v1/jobs/{job['id']}")).json()["status"] == "queued"


async def test_documents_are_listed_page_by_page(acme: httpx.AsyncClient) -> None:
    first = (await acme.get("/v1/documents?limit=2")).json()
    assert ([one["name"] for one in first["documents"]], first["has_more"]) == (
        ["a.md", "b.md"],
        True,
    )
    rest = (await acme.get("/v1/documents?limit=2&after=b.md")).json()
    assert ([one["name"] for one in rest["documents"]], rest["has_more"]) == (["c.md"], False)


async def test_a_document_is_read_and_deleted(acme: httpx.AsyncClient, fakes: Fakes) -> None:
    assert (await acme.get("/v1/documents/a")).json()["name"] == "a.md"
    assert (await acme.delete("/v1/documents/a?collection=acme-docs")).status_code == 204
    assert fakes.library.deleted == ["acme-docs/a"]
    assert (await acme.delete("/v1/documents/b")).status_code == 404


async def test_a_collection_is_made_described_and_deleted(
    acme: httpx.AsyncClient, fakes: Fakes
) -> None:
    fakes.library.names.remove("acme-docs")
    made = await acme.post("/v1/collections", json={"name": "acme-docs", "chunk_tokens": 100})
    assert (made.status_code, made.json()["name"]) == (201, "acme-docs")
    assert (await acme.post("/v1/collections", json={"name": "acme-docs"})).status_code == 409
    assert (await acme.get("/v1/collections/acme-docs")).json()["name"] == "acme-docs"
    assert (await acme.delete("/v1/collections/acme-docs")).status_code == 204
    assert (await acme.get("/v1/collections/acme-docs")).status_code == 404
    wrong = await acme.post("/v1/collections", json={"name": "default", "colour": "red"})
    assert wrong.json()["error"]["code"] == "unsupported_field"


async def test_re_embedding_is_a_job(acme: httpx.AsyncClient) -> None:
    sent = await acme.post("/v1/collections/default/re-embed", json={"embedder": "new"})
    assert (sent.status_code, sent.json()["kind"], sent.json()["name"]) == (202, "embedder", "new")
    back = await acme.post("/v1/collections/default/rollback")
    assert (back.status_code, back.json()["name"]) == (202, "the earlier one")
