"""The cheap load generator against the mock LLM."""

from __future__ import annotations

from typing import Any

import pytest

from bench.http_load import Call, closed_loop
from tests.support.mock import serve

BODY = {"model": "mock", "messages": [{"role": "user", "content": "Hello there, mock."}]}


@pytest.mark.parametrize("streamed", [True, False])
async def test_every_answer_is_timed(streamed: bool) -> None:
    async with serve(tokens_per_s=200, answer_tokens=20) as (mock, client):
        call = Call(f"{client.base_url}/v1/chat/completions", {**BODY, "stream": streamed})
        timings = await closed_loop(call, clients=4, requests=12, warm=4)
        assert mock.requests == 16
    report = timings.report()
    assert (len(timings.totals), report["errors"]) == (12, {})
    assert min(timings.totals) > 0.09
    assert len(timings.first_words) == (12 if streamed else 0)
    assert sorted(timings.first_words) < sorted(timings.totals)


@pytest.mark.parametrize(
    ("settings", "errors"),
    [
        ({"fault": "server_error"}, {"status 500": 3}),
        ({"fault": "disconnect", "answer_tokens": 9}, {"IncompleteReadError": 3}),
    ],
)
async def test_failures_are_told_of(settings: dict[str, Any], errors: dict[str, int]) -> None:
    async with serve(**settings) as (_, client):
        call = Call(f"{client.base_url}/v1/chat/completions", {**BODY, "stream": True})
        timings = await closed_loop(call, clients=2, requests=3)
    assert (timings.totals, timings.errors) == ([], errors)
