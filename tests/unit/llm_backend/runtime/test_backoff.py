from __future__ import annotations

from llm_backend.runtime.backoff import STABLE_S, Backoff


def test_doubles_up_to_the_most() -> None:
    backoff = Backoff(1, 5)
    assert [backoff.after(0) for _ in range(5)] == [1, 2, 4, 5, 5]


def test_a_stable_engine_starts_the_count_anew() -> None:
    backoff = Backoff(1, 5)
    backoff.after(0)
    backoff.after(0)
    assert backoff.after(STABLE_S) == 1
