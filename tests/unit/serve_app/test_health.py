"""`/readyz`: anybody may ask, and it costs little however many do."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from rag_graph.errors import LLMUnavailableError
from serve_app.api import create_api
from serve_app.auth import Keys
from serve_app.routes import health
from serve_app.services import Services
from tests.unit.serve_app.conftest import Fakes


async def test_all_who_ask_at_the_same_time_share_one_look(
    fakes: Fakes, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    async def check() -> None:
        nonlocal looks
        looks += 1
        await asyncio.sleep(0.01)

    services = Services(**{**vars(fakes.services(keys)), "checks": {"part": check}})
    transport = httpx.ASGITransport(create_api(services))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        monkeypatch.setattr(health, "FRESH_S", 60)
        answers = await asyncio.gather(*(client.get("/readyz") for _ in range(20)))
        assert {answer.status_code for answer in answers} == {200}
    assert looks == 1


async def test_an_answer_is_not_kept_for_long(
    client: httpx.AsyncClient, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "FRESH_S", 0)
    assert (await client.get("/readyz")).status_code == 200
    fakes.llm_down = LLMUnavailableError("The LLM service is down.")
    assert (await client.get("/readyz")).status_code == 503


async def test_what_does_not_work_is_named(client: httpx.AsyncClient, fakes: Fakes) -> None:
    fakes.llm_down = LLMUnavailableError("The LLM service is down.")
    response = await client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["checks"] == {"retriever": "ok", "llm": "The LLM service is down."}
