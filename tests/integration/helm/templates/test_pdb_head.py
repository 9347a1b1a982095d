from __future__ import annotations

from tests.support import chart


def test_with_redis_the_head_may_be_drained() -> None:
    spec = chart.one(chart.rendered("prod"), "PodDisruptionBudget", "isthmus-head")["spec"]
    assert spec["maxUnavailable"] == 1
    assert spec["selector"]["matchLabels"]["isthmus.dev/role"] == "head"


def test_without_redis_it_may_not() -> None:
    spec = chart.one(chart.rendered("default"), "PodDisruptionBudget", "isthmus-head")["spec"]
    assert spec["maxUnavailable"] == 0
