"""Which endpoint is picked, and when one is left alone."""

from __future__ import annotations

import pytest

from contracts.errors import Code
from rag_graph.errors import LLMUnavailableError
from rag_graph.llm.client import LLMClient
from rag_graph.llm.endpoint import (
    FAILURES_TO_OPEN,
    FULL,
    ONLY_OPEN_S,
    OPEN_S,
    Endpoint,
    pick,
)

BROKEN = LLMUnavailableError("broken")
STARTING = LLMUnavailableError("starting", Code.NOT_READY, None, 7.0)


def endpoint(**state: float) -> Endpoint:
    return Endpoint(LLMClient("http://x"), **state)  # type: ignore[arg-type]


def test_the_least_busy_then_the_healthiest_then_the_least_used() -> None:
    busy, sick, used, fresh = (
        endpoint(outstanding=2),
        endpoint(failures=1),
        endpoint(uses=5),
        endpoint(uses=1),
    )
    assert pick([busy, sick, used, fresh], 0) is fresh
    assert pick([busy, sick, used], 0) is used
    assert pick([busy, sick], 0) is sick
    assert pick([], 0) is None


def test_failures_in_a_row_close_it_for_a_while() -> None:
    one = endpoint()
    for _ in range(FAILURES_TO_OPEN - 1):
        one.failed(100.0, BROKEN)
        assert pick([one], 100.0) is one
    one.failed(100.0, BROKEN)
    assert one.suspect
    assert pick([one], 100.0 + OPEN_S - 0.1) is None
    assert pick([one], 100.0 + OPEN_S) is one
    one.succeeded()
    assert not one.suspect


def test_its_own_wish_closes_it_at_once() -> None:
    one = endpoint()
    one.failed(0.0, STARTING)
    assert pick([one], 6.9) is None
    assert pick([one], 7.0) is one
    assert (one.refusal().code, one.refusal().retry_after) == (Code.NOT_READY, 7.0)


def test_the_only_one_is_not_left_alone_for_long() -> None:
    one = endpoint(only=True)
    one.failed(0.0, STARTING)
    assert pick([one], ONLY_OPEN_S - 0.1) is None
    assert pick([one], ONLY_OPEN_S) is one


@pytest.mark.parametrize("code", FULL)
def test_that_the_only_one_is_full_closes_it_for_nobody(code: str) -> None:
    one = endpoint(only=True)
    for _ in range(FAILURES_TO_OPEN):
        one.failed(0.0, LLMUnavailableError("full", code, None, 60.0))
    assert pick([one], 0.0) is one
    assert not one.suspect


def test_outstanding_requests_are_counted_even_when_they_fail() -> None:
    one = endpoint()
    with pytest.raises(ZeroDivisionError), one.busy():
        assert one.outstanding == 1 / 0
    assert (one.outstanding, one.uses) == (0, 1)
