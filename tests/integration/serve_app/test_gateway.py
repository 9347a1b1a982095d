"""The gateway on real Ray Serve, over the mock LLM as a process of its own."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import httpx
import openai
import pytest
from langchain_openai import ChatOpenAI

from contracts.sse import Decoder
from serve_app.routes.health import FRESH_S
from tests.integration.serve_app.conftest import MockProcess
from tests.support.processes import wait_for
from tests.support.serve import Gateway

QUESTION = "Which taint do the GPU node pools carry?"
ASK = {"model": "isthmus", "messages": [{"role": "user", "content": QUESTION}]}
ANSWER = re.compile(r"The GPU node pools carry the taint sku=gpu:NoSchedule\. \[\d\]")


def test_the_official_client_works(served: Gateway, mock: MockProcess) -> None:
    client = served.openai()
    with mock.running():
        assert [model.id for model in client.models.list()] == ["isthmus", "mock"]
        whole = client.chat.completions.create(**ASK)  # type: ignore[call-overload]
        chunks = list(client.chat.completions.create(**ASK, stream=True))  # type: ignore[call-overload]
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert whole.choices[0].message.content == streamed
    assert ANSWER.fullmatch(streamed)
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    (citation,) = whole.citations
    assert (citation["source"], f"[{citation['number']}]") == ("pools.md", streamed[-3:])
    assert chunks[-1].citations == whole.citations


def test_the_llms_own_model_answers_through_the_gateway(served: Gateway, mock: MockProcess) -> None:
    asked = {"model": "mock", "messages": [{"role": "user", "content": "Hello there."}]}
    with mock.running():
        plain = served.openai().chat.completions.create(**asked, max_tokens=3)  # type: ignore[call-overload]
    assert plain.choices[0].message.content == "No passages were"
    assert plain.usage.completion_tokens == 3


def test_langchain_works(served: Gateway, mock: MockProcess) -> None:
    model = ChatOpenAI(model="isthmus", base_url=f"{served.url}/v1", api_key="none")  # type: ignore[arg-type]
    with mock.running():
        whole = str(model.invoke(QUESTION).content)
        assert "".join(str(chunk.content) for chunk in model.stream(QUESTION)) == whole
    assert ANSWER.fullmatch(whole)


def test_tokens_leave_as_they_come(served: Gateway, mock: MockProcess) -> None:
    seconds_of_answer = 2.0
    with mock.running(tokens_per_s=10, answer_tokens=int(seconds_of_answer * 10)):
        started = time.monotonic()
        arrivals = [
            time.monotonic() - started
            for chunk in served.openai().chat.completions.create(**ASK, stream=True)  # type: ignore[call-overload]
            if chunk.choices[0].delta.content
        ]
    assert len(arrivals) == 20
    assert arrivals[-1] - arrivals[0] > 0.8 * seconds_of_answer


def test_a_client_that_hangs_up_stops_the_llm(served: Gateway, mock: MockProcess) -> None:
    with mock.running(tokens_per_s=10, answer_tokens=10_000):
        with (
            served.http() as http,
            http.stream("POST", "/v1/chat/completions", json={**ASK, "stream": True}) as response,
        ):
            lines = response.iter_lines()
            assert any("content" in line for line in lines)
            wait_for(lambda: mock.generating() == 1, 5, "the mock generates")
        wait_for(lambda: mock.generating() == 0, 5, "the mock is told to stop")


def test_without_an_llm_there_are_passages_and_a_503(served: Gateway) -> None:
    with served.http() as http:
        response = http.post("/v1/chat/completions", json=ASK)
        ready = http.get("/readyz")
        assert http.get("/healthz").status_code == 200
    assert response.status_code == 503
    assert response.headers["retry-after"]
    body = response.json()
    assert body["degraded"] is True
    assert any("sku=gpu" in passage["text"] for passage in body["passages"])
    assert body["error"]["code"] == "not_ready"
    assert ready.status_code == 503
    assert ready.json()["checks"]["retriever"] == "ok"
    assert "cannot be reached" in ready.json()["checks"]["llm"]
    assert "cannot be reached" in ready.json()["error"]["message"]


def test_it_is_ready_when_the_llm_is(served: Gateway, mock: MockProcess) -> None:
    with mock.running(), served.http() as http:
        wait_for(lambda: http.get("/readyz").is_success, 2 * FRESH_S, "ready")
        ready = http.get("/readyz")
        unknown = http.post("/v1/chat/completions", json={**ASK, "model": "gpt-9"})
    assert (ready.status_code, ready.json()["status"]) == (200, "ok")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")


def test_a_deadline_passes_while_the_llm_stalls(served: Gateway, mock: MockProcess) -> None:
    with mock.running(fault="stall", fault_after_tokens=0), served.http() as http:
        headers = {"x-request-deadline-ms": "700"}
        response = http.post("/v1/chat/completions", json=ASK, headers=headers)
    assert response.status_code == 504
    assert response.json()["error"]["code"] == "deadline_exceeded"


def test_a_stream_that_breaks_off_says_so(served: Gateway, mock: MockProcess) -> None:
    with mock.running(fault="disconnect", answer_tokens=20), served.http() as http:
        response = http.post("/v1/chat/completions", json={**ASK, "stream": True})
        last = list(Decoder().feed(response.content))[-1]
        assert json.loads(last.data)["error"]["code"] == "upstream_error"
        with pytest.raises(openai.APIError, match="broke off"):
            list(served.openai().chat.completions.create(**ASK, stream=True))  # type: ignore[call-overload]


def test_search(served: Gateway) -> None:
    with served.http() as http:
        found = http.post("/v1/search", json={"query": "where are weights", "top_k": 1}).json()
    (passage,) = found["passages"]
    assert passage["source"] == "pools.md"
    assert "Azure Files" in passage["text"]


def test_the_same_document_again_changes_nothing(served: Gateway) -> None:
    with served.http() as http:
        first, again, other = (
            http.post("/v1/documents?wait=60", files={"file": ("again.md", text)}).json()
            for text in ("# A\n\nOne.", "# A\n\nOne.", "# A\n\nTwo.")
        )
    assert [r["result"] for r in (first, again, other)] == ["created", "unchanged", "replaced"]
    assert first["document_id"] == other["document_id"]


def test_a_document_is_followed_listed_and_deleted(served: Gateway) -> None:
    text = "".join(f"# H{i}\n\nParagraph {i} of a long document.\n\n" for i in range(60))
    with served.http() as http:
        sent = http.post("/v1/documents", files={"file": ("long.md", text)})
        assert sent.status_code == 202
        job = sent.json()
        frames = _frames(http, job["id"])
        assert [f["status"] for f in frames][-2:] == ["indexing", "done"]
        assert {f["chunks_total"] for f in frames if f["status"] == "embedding"} == {60}
        done = [f["chunks_done"] for f in frames if f["status"] == "embedding"]
        assert done == sorted(done)
        assert len(set(done)) > 2
        assert http.get(f"/v1/jobs/{job['id']}").json() == frames[-1]
        where = f"/v1/documents/{frames[-1]['document_id']}"
        assert http.get(where).json()["chunks"] == 60
        assert "long.md" in [d["name"] for d in http.get("/v1/documents").json()["documents"]]
        assert http.delete(where).status_code == 204
        assert http.get(where).status_code == 404
        found = http.post("/v1/search", json={"query": "Paragraph 7 of a long document"}).json()
        assert "long.md" not in [passage["source"] for passage in found["passages"]]


def _frames(http: httpx.Client, job_id: str) -> list[dict[str, Any]]:
    content = http.get(f"/v1/jobs/{job_id}/events").content
    return [json.loads(event.data) for event in Decoder().feed(content)]


def test_collections_are_made_with_settings_and_deleted(served: Gateway) -> None:
    with served.http() as http:
        made = http.post("/v1/collections", json={"name": "small", "chunk_tokens": 32})
        assert made.status_code == 201, made.text
        text = {"file": ("a.md", "word " * 100)}
        job = http.post("/v1/documents?wait=60", files=text, data={"collection": "small"}).json()
        assert job["chunks_total"] == 4
        names = [one["name"] for one in http.get("/v1/collections").json()["collections"]]
        assert {"default", "small"} <= set(names)
        wrong = http.post("/v1/collections/small/re-embed", json={"embedder": "absent"})
        assert wrong.json()["error"]["param"] == "embedder"
        assert http.post("/v1/collections/small/rollback").status_code == 400
        assert http.delete("/v1/collections/small").status_code == 204
        gone = http.post("/v1/search", json={"query": "word", "collection": "small"})
        assert gone.status_code == 404


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("x.rtf", b"{\\rtf1 text}", "unsupported_media_type"),
        ("x.png", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "unreadable_document"),
        ("empty.md", b"", "unreadable_document"),
        ("broken.pdf", b"%PDF-1.7 nothing", "unreadable_document"),
    ],
)
def test_documents_that_cannot_go_in(served: Gateway, name: str, content: bytes, code: str) -> None:
    with served.http() as http:
        job = http.post("/v1/documents?wait=60", files={"file": (name, content)}).json()
    assert (job["status"], job["error"]["code"]) == ("failed", code)
    assert job["error"]["message"].endswith(".")


def test_a_document_needs_a_name(served: Gateway) -> None:
    with served.http() as http:
        assert http.post("/v1/documents", files={"file": ("..", b"text")}).status_code == 400


def test_errors_keep_their_form_through_ray_serve(served: Gateway) -> None:
    with served.http() as http:
        answers = [
            http.get("/nothing"),
            http.delete("/v1/search"),
            http.post("/v1/search", json={"query": "x", "collection": "absent"}),
            http.post("/v1/chat/completions", json={**ASK, "logit_bias": {}}),
            http.post("/v1/chat/completions", json={**ASK, "model": "gpt-9"}),
            http.post("/v1/chat/completions", content=b"a" * (3 << 20)),
        ]
    assert [a.status_code for a in answers] == [404, 405, 404, 400, 503, 413]
    assert [a.json()["error"]["code"] for a in answers] == [
        "not_found",
        "method_not_allowed",
        "not_found",
        "unsupported_field",
        "not_ready",  # the LLM is down: nobody knows whether it has that model
        "payload_too_large",
    ]


def test_the_request_id_is_echoed_once(served: Gateway) -> None:
    with served.http() as http:
        given = http.get("/healthz", headers={"x-request-id": "me-1"})
        made = http.get("/healthz")
    assert given.headers.get_list("x-request-id") == ["me-1"]
    assert len(made.headers.get_list("x-request-id")) == 1


def test_the_api_describes_itself(served: Gateway) -> None:
    schema = httpx.get(f"{served.url}/openapi.json").json()
    assert {"/v1/chat/completions", "/v1/search", "/v1/documents"} <= set(schema["paths"])


def test_a_conversation_is_remembered_on_the_server(served: Gateway, mock: MockProcess) -> None:
    follow_up = {"model": "isthmus", "messages": [{"role": "user", "content": "Who carries it?"}]}
    with mock.running(), served.http() as http:
        first = http.post("/v1/chat/completions", json={**ASK, "thread_id": "t1"})
        assert first.status_code == 200, first.text
        second = http.post("/v1/chat/completions", json={**follow_up, "thread_id": "t1"}).json()
        assert second["isthmus"]["standalone_question"].startswith("Which taint do the GPU node")
        assert second["isthmus"]["model"] == "mock"
        assert second["isthmus"]["tokens"]["completion"] > 0
        (thread,) = http.get("/v1/threads").json()["threads"]
        assert (thread["id"], thread["title"], thread["messages"]) == ("t1", QUESTION, 4)
        assert http.delete("/v1/threads/t1").status_code == 204
        assert http.get("/v1/threads").json() == {"threads": []}
