from __future__ import annotations

import pytest

from tests.support import chart


@pytest.mark.parametrize(
    ("case", "kept"),
    [("prod", 1), ("default", 1), ("ranks-on-hosts", 4), ("vllm", 1)],
)
def test_the_last_replica_and_half_a_replica_stay(case: str, kept: int) -> None:
    spec = chart.one(chart.rendered(case), "PodDisruptionBudget", "isthmus-llm")["spec"]
    assert spec["minAvailable"] == kept
