"""The routes, without an engine behind them."""

from __future__ import annotations

from typing import Any, cast

import httpx
import pytest

from contracts.errors import Code
from llm_backend.api.app import create_app
from llm_backend.api.dispatcher import Dispatcher
from llm_backend.api.service import Service
from llm_backend.runtime import ipc
from llm_backend.runtime.supervisor import State, Status, Supervisor
from llm_backend.settings import LlmSettings

TEXT = {"model": "org/tiny", "prompt": "a"}
CHAT = {"model": "org/tiny", "messages": [{"role": "user", "content": "a"}]}


@pytest.fixture
def service() -> Service:
    settings = LlmSettings(served_model_name="org/tiny")
    return Service(settings, Dispatcher(settings), cast("Supervisor", None))


@pytest.fixture
def client(service: Service) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(create_app(service))
    return httpx.AsyncClient(transport=transport, base_url="http://test")


@pytest.mark.parametrize("path", ["/v1/models/org/tiny", "/v1/models/org%2Ftiny"])
async def test_a_model_may_have_a_slash_in_its_name(client: httpx.AsyncClient, path: str) -> None:
    response = await client.get(path)
    assert (response.status_code, response.json()["id"]) == (200, "org/tiny")


async def test_another_model_is_not_found(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/models/org/other")
    assert (response.status_code, response.json()["error"]["code"]) == (404, Code.MODEL_NOT_FOUND)


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("/v1/completions", TEXT, Code.NOT_READY),
        ("/v1/chat/completions", CHAT, Code.NOT_READY),
        ("/v1/chat/completions", {**CHAT, "model": "x"}, Code.MODEL_NOT_FOUND),
        ("/v1/completions", {**TEXT, "n": 0}, Code.INVALID_REQUEST),
    ],
)
async def test_refusals_are_counted_by_their_code(
    client: httpx.AsyncClient, service: Service, path: str, body: dict[str, Any], code: str
) -> None:
    response = await client.post(path, json=body)
    assert response.json()["error"]["code"] == code
    text = service.metrics.render(Status(State.STARTING), ipc.Stats()).decode()
    assert f'isthmus_llm_requests_total{{outcome="{code}"}} 1.0' in text
