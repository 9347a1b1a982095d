"""The load generator against the mock: what failed is never counted as served."""

from __future__ import annotations

import pytest

from bench import load
from bench.workload import Workload
from contracts.mock_llm import Fault
from tests.support.mock import serve

WORKLOAD = Workload("mock", output_tokens=16)


async def test_a_closed_loop_serves_every_request() -> None:
    async with serve(answer_tokens=16, time_to_first_token_s=0.05) as (mock, client):
        url = f"{client.base_url}/v1"
        figures = await load.run(url, WORKLOAD, requests=20, clients=4)
    assert (figures.served, figures.failed, mock.requests) == (20, 0, 20)
    assert figures.output_tokens == 20 * 16
    assert figures.ttft_ms["p50"] >= 50
    assert figures.tokens_per_s == pytest.approx(20 * 16 / figures.wall_s, rel=0.01)


async def test_an_open_loop_does_not_wait_for_answers() -> None:
    async with serve(answer_tokens=16, time_to_first_token_s=0.5) as (_, client):
        url = f"{client.base_url}/v1"
        figures = await load.run(url, WORKLOAD, requests=10, rate_per_s=100)
    assert figures.served == 10
    assert figures.wall_s < 10 * 0.5  # one after the other would take that


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"fault": Fault.SERVER_ERROR}, "status 500"),
        ({"fault": Fault.RATE_LIMIT}, "status 429"),
        ({"fault": Fault.DISCONNECT}, "RemoteProtocolError"),
        ({"fault": Fault.MALFORMED}, "JSONDecodeError"),
        ({"answer_tokens": 7}, "7 tokens instead of 16"),
    ],
)
async def test_what_failed_is_never_counted_as_served(
    settings: dict[str, object], error: str
) -> None:
    async with serve(**{"answer_tokens": 16, "fault_requests": 100, **settings}) as (_, client):
        figures = await load.run(f"{client.base_url}/v1", WORKLOAD, requests=4, clients=2)
    assert (figures.served, figures.errors) == (0, {error: 4})
    assert figures.tokens_per_s == 0
