"""Reciprocal rank fusion."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_graph.retrieval.fusion import fuse

RANKINGS = st.lists(st.lists(st.integers(0, 20), max_size=15), max_size=4)


def test_scores_are_the_papers() -> None:
    fused = dict(fuse([["a", "b"], ["b", "c"]], 60, {}))
    assert fused["b"] == pytest.approx(1 / 62 + 1 / 61)
    assert fused["a"] == pytest.approx(1 / 61)
    assert [key for key, _ in fuse([["a", "b"], ["b", "c"]], 60, {})] == ["b", "a", "c"]


def test_evidence_decides_between_equal_sums() -> None:
    assert [key for key, _ in fuse([["a", "b"], ["b", "a"]], 5, {"a": 0.2, "b": 0.9})] == ["b", "a"]
    assert [key for key, _ in fuse([["a", "b"], ["b", "a"]], 5, {"a": 0.2})] == ["a", "b"]


@given(RANKINGS)
def test_every_key_comes_out_once_best_first(rankings: list[list[int]]) -> None:
    fused = fuse(rankings, 5, {})
    assert sorted(key for key, _ in fused) == sorted({k for r in rankings for k in r})
    assert [s for _, s in fused] == sorted((s for _, s in fused), reverse=True)


@given(st.lists(st.integers(0, 20), unique=True))
def test_one_ranking_keeps_its_order(ranking: list[int]) -> None:
    assert [key for key, _ in fuse([ranking], 5, {})] == ranking
