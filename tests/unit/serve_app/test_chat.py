"""`POST /v1/chat/completions` over fakes."""

from __future__ import annotations

import json
from contextlib import aclosing
from typing import Any

import httpx
import pytest

from contracts.errors import Code
from contracts.openai import ChatCompletionChunk
from contracts.sse import Decoder
from rag_graph.errors import (
    LLMRequestError,
    LLMStreamError,
    LLMTimeoutError,
    LLMUnavailableError,
    StoreError,
)
from rag_graph.llm.client import LLMClient
from serve_app.api import create_api
from serve_app.auth import Keys
from serve_app.chat import ChatRequest, begun
from serve_app.services import Services
from tests.support.processes import free_port
from tests.unit.serve_app.conftest import Fakes

ASK = {"model": "isthmus", "messages": [{"role": "user", "content": "Which taint?"}]}
TEXT = "The taint is sku=gpu. [1]"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def ask(client: httpx.AsyncClient, **changes: Any) -> httpx.Response:
    return await client.post("/v1/chat/completions", json={**ASK, **changes})


def frames(response: httpx.Response) -> list[str]:
    return [event.data for event in Decoder().feed(response.content)]


async def test_an_answer_carries_its_citations_and_usage(client: httpx.AsyncClient) -> None:
    response = await ask(client)
    body = response.json()
    assert response.status_code == 200
    assert body["choices"][0]["message"] == {"role": "assistant", "content": TEXT}
    assert body["usage"]["total_tokens"] == 10
    assert body["citations"][0]["quote"] == "sku=gpu."
    assert body["citations"][0]["passage"] == "The taint is sku=gpu."
    assert body["isthmus"] == {"llm_model": "tiny", "passages": 1}


async def test_a_model_can_be_named_behind_the_route(
    client: httpx.AsyncClient, fakes: Fakes
) -> None:
    assert (await ask(client, model="isthmus/org/large")).status_code == 200
    assert (await ask(client)).status_code == 200
    assert [question.model for question in fakes.questions] == ["org/large", None]
    assert (await ask(client, model="isthmus/")).status_code == 404


async def test_a_stream_says_the_same(client: httpx.AsyncClient) -> None:
    response = await ask(client, stream=True, stream_options={"include_usage": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    *chunks, done = frames(response)
    assert done == "[DONE]"
    parsed = [ChatCompletionChunk.model_validate_json(chunk) for chunk in chunks]
    assert "".join(c.choices[0].delta.content or "" for c in parsed if c.choices) == TEXT
    assert json.loads(chunks[-2])["citations"][0]["number"] == 1
    assert parsed[-2].choices[0].finish_reason == "stop"
    assert parsed[-1].usage is not None
    assert parsed[-1].usage.total_tokens == 10


async def test_a_stream_without_usage_never_has_a_chunk_without_choices(
    client: httpx.AsyncClient,
) -> None:
    *chunks, _ = frames(await ask(client, stream=True))
    assert all(json.loads(chunk)["choices"] for chunk in chunks)


async def test_every_field_reaches_the_question(client: httpx.AsyncClient, fakes: Fakes) -> None:
    history = [{"role": "system", "content": "Be brief."}, {"role": "assistant", "content": "Yes?"}]
    sent = {
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 4,
        "stop": ["END"],
        "collection": "notes",
        "retrieval": "always",
        "top_k": 3,
        "filters": {"source": "a.md"},
    }
    headers = {"x-request-id": "me-1", "x-request-deadline-ms": "1500", "traceparent": TRACE}
    await client.post(
        "/v1/chat/completions",
        json={**ASK, **sent, "messages": history + ASK["messages"]},  # type: ignore[operator]
        headers=headers,
    )
    (asked,) = fakes.questions
    assert (asked.text, [m.role for m in asked.history]) == (
        "Which taint?",
        ["system", "assistant"],
    )
    assert (asked.max_tokens, asked.temperature, asked.top_p, asked.seed) == (9, 0.5, 0.9, 4)
    assert (asked.stop, asked.collection, asked.top_k) == (("END",), "notes", 3)
    assert asked.retrieval == "always"
    assert asked.filters == {"source": "a.md"}
    assert (asked.request_id, asked.traceparent) == ("me-1", TRACE)
    assert asked.timeout_s == pytest.approx(1.5, abs=0.1)
    assert asked.timeout_s < 1.5, "waiting for its turn is in the deadline"
    mapped = {"messages", "model", "stream", "stream_options", "max_completion_tokens"} | set(sent)
    mapped |= {"thread_id", "n"}  # below
    assert set(ChatRequest.model_fields) == mapped, "a field that no test sees reach the question"


async def test_a_thread_is_the_tenants_and_remembers_by_itself(
    client: httpx.AsyncClient, fakes: Fakes
) -> None:
    assert (await ask(client, thread_id="t1")).status_code == 200
    (asked,) = fakes.questions
    assert (asked.tenant, asked.thread_id) == ("local", "t1")
    turns = [{"role": "assistant", "content": "Yes?"}, *ASK["messages"]]
    refused = await ask(client, thread_id="t1", messages=turns)
    assert refused.status_code == 400
    assert "thread_id remembers the earlier turns" in refused.json()["error"]["message"]


async def test_one_answer_may_be_asked_for(client: httpx.AsyncClient) -> None:
    assert len((await ask(client, n=1)).json()["choices"]) == 1


async def test_only_known_fields_filter(client: httpx.AsyncClient) -> None:
    assert (await ask(client, filters={"1=1 --": "x"})).status_code == 400


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"{", Code.INVALID_JSON, None),
        (b"[]", Code.INVALID_REQUEST, None),
        (b"\xff\xfe", Code.INVALID_JSON, None),
        ({"messages": []}, Code.INVALID_REQUEST, "messages"),
        ({"messages": [{"role": "user", "content": 3}]}, Code.INVALID_REQUEST, "messages[0]"),
        ({"messages": [{"role": "user", "content": " "}]}, Code.INVALID_REQUEST, "messages[0]"),
        ({"messages": [{"role": "system", "content": "x"}]}, Code.INVALID_REQUEST, "messages[0]"),
        ({"max_tokens": -1}, Code.INVALID_REQUEST, "max_tokens"),
        ({"top_k": 0}, Code.INVALID_REQUEST, "top_k"),
        ({"n": 2}, Code.INVALID_REQUEST, "n"),
        ({"tools": []}, Code.UNSUPPORTED_FIELD, "tools"),
        ({"stream_options": {}}, Code.INVALID_REQUEST, None),
    ],
)
async def test_a_request_that_cannot_be_is_refused_by_name(
    client: httpx.AsyncClient, fakes: Fakes, body: bytes | dict[str, Any], code: str, param: str
) -> None:
    content = body if isinstance(body, bytes) else json.dumps({**ASK, **body}).encode()
    response = await client.post(
        "/v1/chat/completions", content=content, headers={"content-type": "application/json"}
    )
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, code)
    assert (error["param"] or "").startswith(param or "")
    assert error["message"].endswith(".")
    assert fakes.questions == []


async def test_an_unknown_model_is_a_404_that_names_the_one_there_is(
    client: httpx.AsyncClient,
) -> None:
    response = await ask(client, model="gpt-9")
    assert response.status_code == 404
    assert response.json()["error"]["code"] == Code.MODEL_NOT_FOUND
    assert "'isthmus'" in response.json()["error"]["message"]


async def test_the_llms_own_models_answer_without_documents(
    client: httpx.AsyncClient, fakes: Fakes
) -> None:
    listed = (await client.get("/v1/models")).json()["data"]
    assert [model["id"] for model in listed] == ["isthmus", "mock"]
    whole = (await ask(client, model="mock", max_tokens=3)).json()
    streamed = frames(await ask(client, model="mock", max_tokens=3, stream=True))
    text = "".join(
        json.loads(chunk)["choices"][0]["delta"].get("content", "") for chunk in streamed[:-1]
    )
    assert whole["choices"][0]["message"]["content"] == text == "No passages were"
    assert (whole["choices"][0]["finish_reason"], whole["citations"]) == ("length", [])
    assert whole["model"] == "mock"
    info = whole["isthmus"]
    assert (info["route"], info["model"], info["cost"]) == ("model", "mock", 0)
    assert info["tokens"]["completion"] == whole["usage"]["completion_tokens"] == 3
    assert info["timings_ms"]["generate"] > 0
    assert fakes.questions == []


@pytest.mark.parametrize("field", [{"top_k": 3}, {"filters": {"source": "a"}}])
async def test_fields_of_a_search_are_refused_where_nothing_is_searched(
    client: httpx.AsyncClient, field: dict[str, Any]
) -> None:
    assert (await ask(client, retrieval="never")).status_code == 200
    assert (await ask(client, retrieval="never", top_k=None, filters={})).status_code == 200
    refused = await ask(client, retrieval="never", **field)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, *field)


@pytest.mark.parametrize("field", [{"collection": "default"}, {"top_k": 3}])
async def test_retrieval_fields_without_retrieval_are_refused(
    client: httpx.AsyncClient, field: dict[str, Any]
) -> None:
    error = (await ask(client, model="mock", **field)).json()["error"]
    assert error["param"] in field
    assert "'isthmus'" in error["message"]


@pytest.mark.parametrize("given", ["soon", "9" * 312])
async def test_a_deadline_that_is_no_number_is_refused(
    client: httpx.AsyncClient, given: str
) -> None:
    response = await client.post(
        "/v1/chat/completions", json=ASK, headers={"x-request-deadline-ms": given}
    )
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "x-request-deadline-ms"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (LLMUnavailableError("The LLM service is down."), 503),
        (LLMStreamError("It broke off."), 502),
        (LLMTimeoutError("Too late."), 504),
    ],
)
async def test_without_an_llm_the_passages_come_back_marked_degraded(
    client: httpx.AsyncClient, fakes: Fakes, failure: Exception, status: int, stream: bool
) -> None:
    fakes.fails_after, fakes.failure = 0, failure  # type: ignore[assignment]
    response = await ask(client, stream=stream)
    body = response.json()
    assert response.status_code == status
    assert body["degraded"] is True
    assert body["passages"][0]["text"] == "The taint is sku=gpu."
    assert str(failure) in body["error"]["message"]
    assert ("retry-after" in response.headers) == (status == 503)


async def test_what_the_llm_refuses_is_told_to_the_client(
    client: httpx.AsyncClient, fakes: Fakes
) -> None:
    fakes.fails_after = 0
    fakes.failure = LLMRequestError("The prompt is too long.", Code.CONTEXT_LENGTH_EXCEEDED)
    response = await ask(client)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == Code.CONTEXT_LENGTH_EXCEEDED


async def test_a_store_that_fails_is_no_degraded_answer(
    client: httpx.AsyncClient, fakes: Fakes
) -> None:
    fakes.search_failure = StoreError("The store cannot be read.")
    response = await ask(client)
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) >= 1
    assert response.json()["error"]["code"] == Code.UNAVAILABLE
    assert "passages" not in response.json()


async def test_an_llm_that_is_down_is_no_unknown_model(fakes: Fakes, keys: Keys) -> None:
    down = LLMClient(f"http://127.0.0.1:{free_port()}")
    api = create_api(Services(**{**vars(fakes.services(keys)), "llm": down}))
    transport = httpx.ASGITransport(api)
    async with (
        aclosing(down),
        httpx.AsyncClient(transport=transport, base_url="http://gateway") as client,
    ):
        response = await ask(client, model="mock")
        listed = (await client.get("/v1/models")).json()["data"]
    assert (response.status_code, response.json()["error"]["code"]) == (503, Code.NOT_READY)
    assert "retry-after" in response.headers
    assert [model["id"] for model in listed] == ["isthmus"]


HALF = r'"\ud800 x"'
"""JSON's spelling of half a character."""


@pytest.mark.parametrize("model", ["isthmus", "mock"])
@pytest.mark.parametrize(
    "body",
    [
        '{"messages": [{"role": "user", "content": HALF}]}',
        '{"messages": [{"role": "user", "content": [{"type": "text", "text": HALF}]}]}',
        '{"messages": [{"role": "user", "content": "Which?"}], "stop": HALF}',
        '{"messages": [{"role": "user", "content": "Which?"}], "stop": [HALF]}',
        '{"filters": {"source": HALF}, "messages": [{"role": "user", "content": "Which?"}]}',
    ],
)
async def test_half_a_character_is_refused(
    client: httpx.AsyncClient, body: str, model: str
) -> None:
    raw = body.replace("HALF", HALF).replace("{", f'{{"model": "{model}", ', 1)
    response = await client.post(
        "/v1/chat/completions", content=raw, headers={"content-type": "application/json"}
    )
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] in {"messages[0].content", "stop", "filters.source"}
    assert error["message"].startswith(f"Field '{error['param']}': ")


@pytest.mark.parametrize("model", ["isthmus", "mock"])
@pytest.mark.parametrize("header", ["x-request-id", "traceparent"])
async def test_headers_that_cannot_be_sent_on_are_left_out(
    client: httpx.AsyncClient, model: str, header: str
) -> None:
    body = {**ASK, "model": model, "max_tokens": 3}
    response = await client.post(
        "/v1/chat/completions", json=body, headers={header: "é".encode("latin-1")}
    )
    assert response.status_code == 200


async def test_a_stream_that_breaks_off_ends_with_an_error_frame(
    client: httpx.AsyncClient, fakes: Fakes
) -> None:
    fakes.fails_after, fakes.failure = 2, LLMStreamError("The LLM service broke off.")
    *_, last = frames(await ask(client, stream=True))
    assert json.loads(last)["error"]["code"] == Code.UPSTREAM_ERROR


async def test_an_answer_that_nobody_reads_any_more_is_closed(fakes: Fakes) -> None:
    from rag_graph.state import Question

    events = (await begun(fakes.answer(Question("?")))).events
    assert await anext(events)
    await events.aclose()
    assert fakes.closed == 1
