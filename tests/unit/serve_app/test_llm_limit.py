"""How many requests the LLM service is given."""

from __future__ import annotations

from contracts.headers import LOAD, Load, load
from serve_app.llm_limit import FIRST, WINDOW_S, LLMLimit


def test_a_load_is_read_and_others_are_none() -> None:
    said = "running=3, waiting=1, in_flight=4, kv_free=0.82, capacity=288"
    assert load({LOAD: said}) == Load(3, 1, 4, 288)
    for other in ("", "running=3", "running=x, waiting=1, in_flight=4, capacity=9"):
        assert load({LOAD: other}) is None


def test_a_service_that_reports_nothing_gets_the_ceiling() -> None:
    limit = LLMLimit(100)
    assert limit.value == FIRST
    limit.observe("a", None, 1, 0)
    assert limit.value == 100


def test_what_others_use_bounds_it_at_once() -> None:
    limit = LLMLimit(100)
    limit.observe("a", Load(running=8, waiting=0, in_flight=10, capacity=12), 6, 0)
    assert limit.value == 8, "6 of ours and the 2 that are free"
    limit.observe("a", Load(running=8, waiting=0, in_flight=12, capacity=12), 6, 0)
    assert limit.value == 6
    limit.observe("a", Load(running=8, waiting=0, in_flight=12, capacity=12), 0, 0)
    assert limit.value == 1, "one request has to find out when it is better"


def settle(limit: LLMLimit, slots: int, seconds: float, others: int = 0) -> int:
    """Run an LLM service of `slots` sequences that `limit` keeps busy; return what it settled on.

    One answer of ours begins every 50 ms.
    """
    now = 0.0
    while now < seconds:
        now += WINDOW_S / 10
        total = limit.value + others
        seen = Load(min(slots, total), max(0, total - slots), total, slots + 256)
        limit.observe("a", seen, limit.value, now)
    return limit.value


def test_it_settles_where_the_service_is_full_and_next_to_nothing_waits() -> None:
    assert 32 <= settle(LLMLimit(256), slots=32, seconds=30) <= 36
    assert 4 <= settle(LLMLimit(256), slots=4, seconds=30) <= 6


def test_it_leaves_others_their_part() -> None:
    assert 10 <= settle(LLMLimit(256), slots=32, seconds=30, others=20) <= 18


def test_it_finds_a_large_batch() -> None:
    assert 128 <= settle(LLMLimit(256), slots=128, seconds=30) <= 144
    assert settle(LLMLimit(64), slots=128, seconds=30) == 64


def test_answers_that_end_together_do_not_fool_it() -> None:
    """Sixteen end at once, those that wait take their places, and nothing waits for a moment."""
    limit, now = LLMLimit(256), 0.0
    for _ in range(50):
        now += 2
        for running in range(8, 16):
            limit.observe("a", Load(running, 0, running, 300), limit.value, now + running / 1000)
        for waiting in range(1, max(2, limit.value - 16)):
            limit.observe("a", Load(16, waiting, 16 + waiting, 300), limit.value, now + 0.1)
    assert limit.value <= 16 + 6


def test_a_burst_into_an_idle_service_lowers_it_by_a_fifth_at_most() -> None:
    limit = LLMLimit(64)
    limit.observe("a", Load(16, 1, 17, 300), 16, 0)
    before = limit.value
    for waiting in range(1, 12):
        limit.observe("a", Load(1, waiting, waiting, 300), waiting, 1 + waiting / 1000)
    assert limit.value >= 0.75 * before


def test_several_endpoints_add_up() -> None:
    limit = LLMLimit(100)
    limit.observe("a", Load(8, 0, 8, 300), 16, 0)
    one = limit.value
    limit.observe("b", Load(8, 0, 8, 300), 16, 0.1)
    assert limit.value == one + 16
