from __future__ import annotations

import pytest

from tests.support import chart


@pytest.mark.parametrize(
    ("case", "unavailable"),
    [("prod", 1), ("default", 0), ("ranks-on-hosts", 0), ("vllm", 1)],
)
def test_the_last_replica_and_half_a_replica_stay(case: str, unavailable: int) -> None:
    spec = chart.one(chart.rendered(case), "PodDisruptionBudget", "isthmus-llm")["spec"]
    assert spec["maxUnavailable"] == unavailable
