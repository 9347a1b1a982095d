from __future__ import annotations

import pytest

from tests.support import chart


def test_with_redis_the_head_may_be_drained() -> None:
    spec = chart.one(chart.rendered("prod"), "PodDisruptionBudget", "isthmus-head")["spec"]
    assert spec["minAvailable"] == 0
    assert spec["selector"]["matchLabels"]["isthmus.dev/role"] == "head"


def test_without_redis_it_may_not() -> None:
    spec = chart.one(chart.rendered("default"), "PodDisruptionBudget", "isthmus-head")["spec"]
    assert spec["minAvailable"] == 1


@pytest.mark.parametrize("case", chart.MATRIX)
def test_no_budget_asks_for_a_scale_that_these_pods_do_not_have(case: str) -> None:
    """For pods whose owner has no `scale`, Kubernetes takes `minAvailable` as a number only."""
    for budget in chart.objects(chart.rendered(case), "PodDisruptionBudget").values():
        assert "maxUnavailable" not in budget["spec"]
        assert isinstance(budget["spec"]["minAvailable"], int)
