from __future__ import annotations

from tests.support import chart


def test_workers_go_one_at_a_time() -> None:
    manifests = chart.rendered("prod")
    spec = chart.one(manifests, "PodDisruptionBudget", "isthmus-worker")["spec"]
    assert spec["minAvailable"] == 1  # of two that there always are
    cluster = chart.one(manifests, "RayService")["spec"]["rayClusterConfig"]
    labels = cluster["workerGroupSpecs"][0]["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()


def test_the_only_worker_may_go() -> None:
    spec = chart.one(chart.rendered("default"), "PodDisruptionBudget", "isthmus-worker")["spec"]
    assert spec["minAvailable"] == 0


def test_budgets_can_be_left_out() -> None:
    assert chart.objects(chart.rendered("dev"), "PodDisruptionBudget") == {}
