"""The gateway's figures, and who sees whose."""

from __future__ import annotations

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from contracts import telemetry
from rag_graph.errors import LLMUnavailableError
from serve_app.auth import Keys
from tests.unit.serve_app.conftest import Fakes
from tests.unit.serve_app.test_auth import ASK, key


@pytest.fixture
def keys() -> Keys:
    return Keys(
        (
            key("acme", collections=["*"]),
            key("zeta", collections=["*"], requests_per_minute=1),
            key("boss", rights=["admin"], collections=["*"]),
            key("zetaboss", tenant="zeta", rights=["admin"]),
        )
    )


async def figures(client: httpx.AsyncClient, secret: str = "") -> dict[tuple[str, ...], float]:
    sent = {"authorization": f"Bearer {secret}"} if secret else {}
    answer = await client.get("/metrics", headers=sent)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def chat(client: httpx.AsyncClient, secret: str) -> int:
    sent = {"authorization": f"Bearer {secret}"}
    return (await client.post("/v1/chat/completions", json=ASK, headers=sent)).status_code


async def test_an_answer_is_counted(client: httpx.AsyncClient) -> None:
    assert await chat(client, "acme") == 200
    await client.get("/nothing/here")
    seen = await figures(client)
    assert seen[telemetry.GATEWAY_REQUESTS_TOTAL, "/v1/chat/completions", "200"] == 1
    assert seen[telemetry.GATEWAY_REQUESTS_TOTAL, "other", "404"] == 1
    assert seen[f"{telemetry.GATEWAY_TTFT_SECONDS}_count",] == 1
    assert seen[telemetry.GATEWAY_TOKENS_TOTAL, "prompt"] == 7
    assert seen[telemetry.GATEWAY_TOKENS_TOTAL, "completion"] == 3
    assert seen[telemetry.GATEWAY_ADMISSION_RUNNING,] == 0
    assert seen[telemetry.GATEWAY_ADMISSION_LIMIT,] > 0


async def test_tenants_are_for_admins_only(client: httpx.AsyncClient) -> None:
    await chat(client, "acme")
    for secret in ("", "acme", "zeta"):
        assert "acme" not in str(await figures(client, secret))
    seen = await figures(client, "boss")
    assert seen[telemetry.GATEWAY_TENANT_REQUESTS_TOTAL, "acme"] == 1
    assert seen[telemetry.GATEWAY_TENANT_TOKENS_TOTAL, "completion", "acme"] == 3
    await chat(client, "zeta")
    of_zeta = await figures(client, "zetaboss")
    assert of_zeta[telemetry.GATEWAY_TENANT_REQUESTS_TOTAL, "zeta"] == 1
    assert "acme" not in str(of_zeta)
    forged = await client.get("/metrics", headers={"authorization": "Bearer forged"})
    assert forged.status_code == 401


async def test_refused_and_degraded_are_counted(client: httpx.AsyncClient, fakes: Fakes) -> None:
    assert [await chat(client, "zeta") for _ in range(3)] == [200, 429, 429]
    fakes.fails_after, fakes.failure = 0, LLMUnavailableError("down")
    assert await chat(client, "acme") == 503
    seen = await figures(client)
    assert seen[telemetry.GATEWAY_REFUSED_TOTAL, "minute"] == 2
    assert seen[telemetry.GATEWAY_DEGRADED_TOTAL,] == 1
