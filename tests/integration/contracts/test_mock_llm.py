"""The mock as its users meet it: a real server, the official client, real faults on the wire."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import httpx
import openai
import pytest

from contracts import headers, sse
from contracts.mock_llm import Fault
from tests.support.mock import serve
from tests.support.processes import free_port, running, wait_for

PROMPT = '<passage id="1" title="t">Pools carry the taint sku=gpu.</passage> Which taint?'
CHAT = {"model": "mock", "messages": [{"role": "user", "content": PROMPT}]}
ANSWER = "Pools carry the taint sku=gpu. [1]"


async def read(client: httpx.AsyncClient, into: list[str] | None = None) -> list[str]:
    """Stream a chat completion; collect the data of its frames, in `into` when it may break off."""
    frames = [] if into is None else into
    body = {**CHAT, "stream": True}
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        assert response.status_code == 200
        async for event in sse.decode(response.aiter_bytes()):
            frames.append(event.data)
    return frames


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    log = tmp_path_factory.mktemp("mock") / "log"
    command = ["-m", "contracts.mock_llm", "--port", str(port)]
    with running(command, ready_url=f"{url}/readyz", log=log):
        yield openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def test_whole(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(**CHAT)  # type: ignore[call-overload]
    assert answer.choices[0].message.content == ANSWER
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 6


def test_streamed_with_usage(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(  # type: ignore[call-overload]
        **CHAT, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == ANSWER
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage.completion_tokens == 6


def test_text_completion(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="mock", prompt=PROMPT, max_tokens=2)
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == (
        "Pools carry",
        "length",
    )


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["mock"]


def test_unknown_model(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="'gpt-9' does not exist"):
        client.chat.completions.create(**{**CHAT, "model": "gpt-9"})  # type: ignore[call-overload]


def test_unsupported_field(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="'service_tier' is not supported"):
        client.chat.completions.create(**CHAT, service_tier="flex")  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("POST", "/v1/chat/completions", 400, "invalid_json"),
    ],
)
async def test_every_refusal_comes_in_the_envelope(
    method: str, path: str, status: int, code: str
) -> None:
    async with serve() as (_, client):
        response = await client.request(method, path, content=b"{nope")
    assert response.status_code == status
    assert response.json()["error"]["code"] == code


async def test_pace_is_kept() -> None:
    async with serve(time_to_first_token_s=0.2, tokens_per_s=50, answer_tokens=11) as (_, client):
        begin = asyncio.get_running_loop().time()
        await read(client)
        took = asyncio.get_running_loop().time() - begin
    assert 0.4 <= took < 2  # 0.2 s to the first token, ten gaps of 20 ms


async def test_request_ids_are_echoed() -> None:
    async with serve() as (_, client):
        sent = {headers.REQUEST_ID: "mine"}
        answered = await client.post("/v1/chat/completions", json=CHAT, headers=sent)
    assert answered.headers[headers.REQUEST_ID] == "mine"


@pytest.mark.parametrize(
    ("fault", "status", "retry_after"),
    [(Fault.SERVER_ERROR, 500, None), (Fault.RATE_LIMIT, 429, "3")],
)
async def test_refusing_faults_strike_as_often_as_told(
    fault: Fault, status: int, retry_after: str | None
) -> None:
    async with serve(fault=fault, fault_requests=2, retry_after_s=3) as (_, client):
        responses = [await client.post("/v1/chat/completions", json=CHAT) for _ in range(3)]
    assert [r.status_code for r in responses] == [status, status, 200]
    assert responses[0].headers.get(headers.RETRY_AFTER) == retry_after


async def test_a_disconnect_breaks_the_stream_after_the_tokens_set() -> None:
    frames: list[str] = []
    async with serve(fault=Fault.DISCONNECT, fault_after_tokens=3) as (mock, client):
        with pytest.raises(httpx.RemoteProtocolError):
            await read(client, into=frames)
        assert mock.active == 0
    assert len(frames) == 1 + 3  # the role, three tokens


async def test_a_malformed_frame_is_not_json() -> None:
    async with serve(fault=Fault.MALFORMED) as (_, client):
        frames = await read(client)
        whole = await client.post("/v1/chat/completions", json=CHAT)
    with pytest.raises(json.JSONDecodeError):
        json.loads(frames[3])
    with pytest.raises(json.JSONDecodeError):
        whole.json()


async def test_a_stalled_stream_ends_when_its_client_leaves() -> None:
    async with serve(fault=Fault.STALL) as (mock, client):
        with pytest.raises(httpx.ReadTimeout):
            await client.post("/v1/chat/completions", json=CHAT, timeout=0.3)
        await asyncio.to_thread(wait_for, lambda: mock.active == 0, 5, "the slot is freed")
        metrics = await client.get("/metrics")
    assert "isthmus_llm_requests_running 0" in metrics.text
    assert "isthmus_llm_requests_total 1" in metrics.text


async def test_a_full_batch_makes_others_wait_and_then_refuses() -> None:
    async with serve(max_num_seqs=2, max_waiting=1, tokens_per_s=1, answer_tokens=100) as (
        mock,
        client,
    ):
        readers = [asyncio.create_task(read(client)) for _ in range(3)]
        await asyncio.to_thread(wait_for, lambda: mock.active == 3, 5, "three are accepted")
        refused = await client.post("/v1/chat/completions", json=CHAT)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        said = headers.load(refused.headers)
        assert said == headers.Load(running=2, waiting=1, in_flight=3, capacity=3)
        figures = (await client.get("/metrics")).text
        assert "isthmus_llm_requests_waiting 1" in figures
        assert "isthmus_llm_time_to_first_token_seconds_count 2" in figures
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        await asyncio.to_thread(wait_for, lambda: mock.active == 0, 5, "all are gone")
        assert (mock._batch.running, mock._batch.waiting) == (0, 0)


async def test_a_start_takes_its_time() -> None:
    async with serve(start_s=0.5) as (_, client):
        starting = await client.get("/readyz")
        refused = await client.post("/v1/chat/completions", json=CHAT)
        assert (starting.status_code, starting.json()["status"]) == (503, "starting")
        assert 0 <= starting.json()["percent"] < 100
        assert refused.json()["error"]["code"] == "not_ready"
        await asyncio.sleep(0.5)
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 200
