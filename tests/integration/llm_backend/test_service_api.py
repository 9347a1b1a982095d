"""The HTTP front end as clients meet it: a real process, fake ranks under a real mpirun."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from typing import Any

import httpx
import openai
import pytest

from tests.support.llm_service import ServiceProcess
from tests.support.processes import wait_for

ENDLESS: dict[str, Any] = {"ignore_eos": True}


def running(service: ServiceProcess) -> int:
    """Sequences that the fake engine is working on, as it said in its last step."""
    header = httpx.get(f"{service.url}/healthz").headers["x-isthmus-load"]
    return int(dict(part.split("=") for part in header.split(", "))["in_flight"])


def test_chat(service: ServiceProcess) -> None:
    answer = service.openai.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "héllo 😀"}]
    )
    assert answer.choices[0].message.content == "héllo 😀"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (11, 12)


def test_streamed_chat_never_splits_a_character(service: ServiceProcess) -> None:
    stream = service.openai.chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": "é😀!"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    texts = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    assert texts == ["é", "😀", "!"]
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 8


def test_max_tokens(service: ServiceProcess) -> None:
    answer = service.openai.completions.create(
        model="tiny", prompt="ab", max_tokens=5, extra_body=ENDLESS
    )
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("ababa", "length")
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 5


@pytest.mark.parametrize("stream", [False, True])
def test_stop_string_over_tokens(service: ServiceProcess, stream: bool) -> None:
    body = {"model": "tiny", "prompt": "one two three", "stop": [" twx", "o th"], "stream": stream}
    response = service.post("/v1/completions", body)
    if stream:
        frames = [json.loads(x[6:]) for x in response.text.split("\n\n")[:-2]]
        text = "".join(f["choices"][0]["text"] for f in frames)
        reason = frames[-1]["choices"][0]["finish_reason"]
    else:
        choice = response.json()["choices"][0]
        text, reason = choice["text"], choice["finish_reason"]
        assert response.json()["usage"]["completion_tokens"] == 10
    assert (text, reason) == ("one tw", "stop")


def test_a_stop_string_ends_the_sequence_in_the_engine(service: ServiceProcess) -> None:
    service.post("/v1/completions", {"model": "tiny", "prompt": "ab", "stop": "b", **ENDLESS})
    wait_for(lambda: running(service) == 0, 5, "cancelled")


def test_prompts_and_choices(service: ServiceProcess) -> None:
    body = {"model": "tiny", "prompt": ["ab", "cd"], "n": 2}
    choices = service.post("/v1/completions", body).json()["choices"]
    assert [(c["index"], c["text"]) for c in choices] == [
        (0, "ab"),
        (1, "ab"),
        (2, "cd"),
        (3, "cd"),
    ]


def test_streamed_choices_interleave(service: ServiceProcess) -> None:
    stream = service.openai.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "abc"}], n=3, stream=True
    )
    texts = ["", "", ""]
    for chunk in stream:
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert texts == ["abc"] * 3


def test_token_ids(service: ServiceProcess) -> None:
    ids = service.post("/tokenize", {"model": "tiny", "prompt": "hi"}).json()["tokens"]
    answer = service.openai.completions.create(model="tiny", prompt=ids)
    assert answer.choices[0].text == "hi"


def test_chat_logprobs(service: ServiceProcess) -> None:
    answer = service.openai.chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": "ab"}],
        logprobs=True,
        top_logprobs=2,
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert [t.token for t in logprobs.content] == ["a", "b", "<eos>"]
    assert len(logprobs.content[0].top_logprobs) == 2


def test_text_logprobs(service: ServiceProcess) -> None:
    answer = service.openai.completions.create(model="tiny", prompt="ab", logprobs=1, max_tokens=2)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert (logprobs.tokens, logprobs.text_offset) == (["a", "b"], [0, 1])


def test_models(service: ServiceProcess) -> None:
    assert [m.id for m in service.openai.models.list()] == ["tiny"]
    assert service.openai.models.retrieve("tiny").id == "tiny"
    with pytest.raises(openai.NotFoundError):
        service.openai.models.retrieve("gpt-9")


def test_request_id_is_echoed(service: ServiceProcess) -> None:
    response = service.post("/v1/completions", {}, **{"x-request-id": "abc"})
    assert (response.status_code, response.headers["x-request-id"]) == (400, "abc")


CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
EMPTY = {"role": "user", "content": ""}
TOOL = {"type": "function", "function": {"name": "f"}}
BOUNDLESS = {"name": "x", "schema": {"type": "array", "uniqueItems": True}}
NESTED = b'{"model":' + b"[" * 50_000


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "param"),
    [
        ("/v1/chat/completions", {**CHAT, "model": "gpt-9"}, 404, "model_not_found", "model"),
        ("/v1/chat/completions", {**CHAT, "messages": []}, 400, "invalid_request", "messages"),
        ("/v1/chat/completions", {**CHAT, "max_tokens": -1}, 400, "invalid_request", "max_tokens"),
        ("/v1/chat/completions", {**CHAT, "max_tokens": 0}, 400, "invalid_request", "max_tokens"),
        ("/v1/chat/completions", {**CHAT, "max_tokens": True}, 400, "invalid_request", None),
        ("/v1/chat/completions", {**CHAT, "n": 10**9}, 400, "invalid_request", "n"),
        ("/v1/chat/completions", {**CHAT, "tools": []}, 400, "invalid_request", "tools"),
        ("/v1/chat/completions", {**CHAT, "tools": [TOOL]}, 400, "unsupported_field", "tools"),
        (
            "/v1/chat/completions",
            {**CHAT, "response_format": {"type": "json_schema", "json_schema": BOUNDLESS}},
            400,
            "invalid_request",
            "response_format.json_schema.schema",
        ),
        ("/v1/chat/completions", {**CHAT, "banana": 1}, 400, "unsupported_field", "banana"),
        ("/v1/chat/completions", {**CHAT, "best_of": 2}, 400, "unsupported_field", "best_of"),
        (
            "/v1/chat/completions",
            {**CHAT, "logit_bias": {f"{i:05}": 1 for i in range(2000)}},
            400,
            "invalid_request",
            "logit_bias",
        ),
        ("/v1/chat/completions", {**CHAT, "stop": ["x"] * 1000}, 400, "invalid_request", None),
        ("/v1/chat/completions", {**CHAT, "temperature": "hot"}, 400, "invalid_request", None),
        ("/v1/chat/completions", {**CHAT, "top_logprobs": 2}, 400, "invalid_request", None),
        ("/v1/chat/completions", {**CHAT, "min_tokens": 9, "max_tokens": 2}, 400, None, None),
        ("/v1/chat/completions", {**CHAT, "logit_bias": {"9999": 1}}, 400, None, "logit_bias"),
        (
            "/v1/chat/completions",
            {**CHAT, "max_tokens": 5000},
            400,
            "context_length_exceeded",
            None,
        ),
        ("/v1/chat/completions", {**CHAT, "messages": [EMPTY]}, 400, "invalid_request", None),
        ("/v1/chat/completions", b"nope", 400, "invalid_json", None),
        ("/v1/chat/completions", b"", 400, "invalid_json", None),
        ("/v1/chat/completions", b'{"model": "\xff"}', 400, "invalid_json", None),
        ("/v1/chat/completions", b'{"model": "tiny", "temperature": NaN}', 400, None, None),
        ("/v1/completions", b'{"model": "tiny", "prompt": "\\ud800"}', 400, "invalid_json", None),
        (
            "/v1/completions",
            b'{"model": "tiny", "prompt": "a", "temperature": 1e999}',
            400,
            "invalid_request",
            "temperature",
        ),
        ("/v1/chat/completions", b"x" * 10_000_000, 413, "payload_too_large", None),
        ("/v1/chat/completions", NESTED, 400, "invalid_json", None),
        ("/v1/chat/completions", b"[]", 400, "invalid_request", None),
        ("/v1/chat/completions", b" " * 100_001, 413, "payload_too_large", None),
        ("/v1/completions", {"model": "tiny", "prompt": [10**6]}, 400, None, "prompt"),
        ("/v1/completions", {"model": "tiny", "prompt": ["a"] * 9, "n": 9}, 400, None, "n"),
        ("/v1/completions", {"model": "tiny", "prompt": ""}, 400, "invalid_request", None),
        ("/v1/embeddings", {"model": "tiny", "input": "x"}, 400, "unsupported_field", None),
        ("/v1/nothing", {}, 404, "not_found", None),
        ("/healthz", {}, 405, "method_not_allowed", None),
    ],
)
def test_refusals(
    service: ServiceProcess,
    path: str,
    body: dict[str, Any] | bytes,
    status: int,
    code: str | None,
    param: str | None,
) -> None:
    response = service.post(path, body)
    error = response.json()["error"]
    assert response.status_code == status, error
    assert error["message"].endswith(".")
    assert code is None or error["code"] == code
    assert param is None or error["param"] == param


def test_over_long_prompt_names_both_numbers(service: ServiceProcess) -> None:
    response = service.post("/v1/completions", {"model": "tiny", "prompt": "x" * 5000})
    assert response.status_code == 400
    assert "5000 tokens" in response.json()["error"]["message"]
    assert "4096" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "wizard"}, "messages[0].role"),
        ({"role": "tool"}, "messages[0]"),  # says not whose result it is
        ({"role": "tool", "tool_call_id": "1"}, "messages[0]"),  # no tools in this template
    ],
)
def test_wrong_role(service: ServiceProcess, message: dict[str, str], param: str) -> None:
    body = {"model": "tiny", "messages": [{**message, "content": "x"}]}
    response = service.post("/v1/chat/completions", body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


def test_the_chat_template_s_own_refusal(service: ServiceProcess) -> None:
    body = {"model": "tiny", "messages": [{"role": "assistant", "content": "x"}]}
    response = service.post("/v1/chat/completions", body)
    assert response.status_code == 400
    assert "the user speaks first" in response.json()["error"]["message"]


def test_the_engine_s_refusal_has_its_status(service: ServiceProcess) -> None:
    response = service.post(
        "/v1/completions", {"model": "tiny", "prompt": "<reject>", "stream": True}
    )
    assert (response.status_code, response.json()["error"]["code"]) == (504, "deadline_exceeded")


def test_wrong_deadline_header(service: ServiceProcess) -> None:
    response = service.post("/v1/chat/completions", CHAT, **{"x-request-deadline-ms": "soon"})
    assert response.status_code == 400


def test_a_client_that_leaves_its_stream_frees_its_place(service: ServiceProcess) -> None:
    body = {"model": "tiny", "prompt": "ab", "max_tokens": 4000, "stream": True, **ENDLESS}
    with httpx.stream("POST", f"{service.url}/v1/completions", json=body) as response:
        parts = response.iter_bytes()
        next(parts)
        assert running(service) == 1
    wait_for(lambda: running(service) == 0, 2, "cancelled")


def test_a_client_that_gives_up_frees_its_place(service: ServiceProcess) -> None:
    body = {"model": "tiny", "prompt": "ab", "max_tokens": 4000, **ENDLESS}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{service.url}/v1/completions", json=body, timeout=0.3)
    wait_for(lambda: running(service) == 0, 2, "cancelled")


def test_a_long_body_of_unknown_length_is_refused_while_it_comes(service: ServiceProcess) -> None:
    pieces = (b"x" * 50_000 for _ in range(200))
    response = httpx.post(f"{service.url}/v1/completions", content=pieces, timeout=60)
    assert (response.status_code, response.json()["error"]["code"]) == (413, "payload_too_large")


@pytest.mark.parametrize("reset", [False, True])
def test_a_client_may_vanish_at_any_point(service: ServiceProcess, reset: bool) -> None:
    body = {"model": "tiny", "prompt": "ab", "max_tokens": 4000, "stream": True, **ENDLESS}
    raw = json.dumps(body).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(raw)}\r\n\r\n"
    request = head.encode() + raw
    host, port = service.url.removeprefix("http://").split(":")
    for length in (0, 1, 20, len(head) - 1, len(head), len(request) - 1, len(request)):
        with socket.create_connection((host, int(port))) as client:
            client.sendall(request[:length])
            if reset:  # no farewell, as from a process that is killed with data unread
                linger = struct.pack("ii", 1, 0)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    wait_for(lambda: running(service) == 0, 30, "cancelled")
    assert service.post("/v1/chat/completions", CHAT).status_code == 200
    assert service.readyz()[1]["restarts"] == 0


@pytest.mark.parametrize(
    "raw",
    [
        b"GARBAGE\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_no_http_is_a_400(service: ServiceProcess, raw: bytes) -> None:
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as client:
        client.sendall(raw)
        assert client.recv(100).startswith(b"HTTP/1.1 400 ")


def test_a_client_that_never_reads_is_cut_off(service: ServiceProcess) -> None:
    body = {"model": "tiny", "prompt": "ab", "max_tokens": 4000, "stream": True, **ENDLESS}
    raw = json.dumps(body).encode()
    host, port = service.url.removeprefix("http://").split(":")
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((host, int(port)))
        head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(raw)}\r\n\r\n"
        client.sendall(head.encode() + raw)
        wait_for(lambda: running(service) == 1, 5, "running")
        began = time.monotonic()
        wait_for(lambda: running(service) == 0, 30, "cut off")
        assert time.monotonic() - began < 7  # all 4000 tokens take at least 8 s
    assert service.post("/v1/chat/completions", CHAT).status_code == 200


def test_many_streams_at_once(service: ServiceProcess) -> None:
    texts: list[str] = []

    def ask(i: int) -> None:
        body = {"model": "tiny", "prompt": f"question {i}", "stream": True}
        frames = service.post("/v1/completions", body).text.split("\n\n")
        texts.append("".join(json.loads(f[6:])["choices"][0]["text"] for f in frames[:-2]))

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(texts) == sorted(f"question {i}" for i in range(32))


def test_metrics(service: ServiceProcess) -> None:
    text = httpx.get(f"{service.url}/metrics").text
    assert "isthmus_llm_engine_ready 1.0" in text
    assert 'isthmus_llm_requests_total{outcome="ok"}' in text
