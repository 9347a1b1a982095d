"""The measures, against values worked out by hand."""

from __future__ import annotations

import math

import pytest

from rag_graph.evals import metrics


def test_measures_of_a_rank() -> None:
    assert metrics.rank_of("b", ["a", "b"]) == 2
    assert metrics.rank_of("c", ["a", "b"]) is None
    assert metrics.ndcg(1) == 1
    assert metrics.ndcg(3) == pytest.approx(0.5)
    assert metrics.ndcg(11) == metrics.ndcg(None) == 0
    assert (metrics.recall(5, 5), metrics.recall(6, 5), metrics.recall(None, 5)) == (1, 0, 0)
    assert (metrics.reciprocal(4), metrics.reciprocal(None)) == (0.25, 0)


def test_answers_are_compared_as_squad_does() -> None:
    assert metrics.exact("The  Golden Gate!", ["golden gate"]) == 1
    assert metrics.exact("It is the Golden Gate.", ["golden gate"]) == 0
    assert metrics.contains("It is the Golden Gate.", ["golden gate"]) == 1
    assert metrics.contains("Golden gates", ["golden gate"]) == 0
    assert metrics.f1("It is 308 points", ["308"]) == pytest.approx(2 / 5)
    assert metrics.f1("none", ["308"]) == metrics.f1("", []) == 0


def test_an_interval_holds_the_mean_and_narrows_with_more_values() -> None:
    few, many = metrics.estimate([0, 1] * 10), metrics.estimate([0, 1] * 500)
    assert few.mean == many.mean == 0.5
    assert few.low < many.low < 0.5 < many.high < few.high
    assert metrics.estimate([0, 1] * 10) == few
    assert math.isnan(metrics.estimate([]).mean)


def test_a_paired_difference_is_surer_than_its_parts() -> None:
    a = [0.1, 0.9] * 50
    better = metrics.difference(a, [value + 0.05 for value in a])
    assert better.low == pytest.approx(0.05)
    assert better.high == pytest.approx(0.05)
