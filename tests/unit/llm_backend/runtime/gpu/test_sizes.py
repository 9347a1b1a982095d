"""Every step fits in one of the sizes, and not in one much too large."""

from __future__ import annotations

import itertools

import pytest

from llm_backend.runtime.gpu.sizes import Sizes
from tests.support.steps import random_steps


@pytest.mark.parametrize("sequences", [1, 6, 32, 250])
def test_decodes_are_padded_by_little(sequences: int) -> None:
    tokens = sorted(size.tokens for size in Sizes(2048, sequences) if size.tile_rows == 1)
    assert tokens[0] == 1
    assert tokens[-1] == sequences
    for smaller, larger in itertools.pairwise(tokens):
        assert larger - smaller <= max(8, smaller / 4)
        assert larger <= 2 * smaller


def test_a_step_fits_and_so_do_its_tiles() -> None:
    sizes = Sizes(tokens=720, sequences=6)
    seen = set()
    for seed in range(5):
        for plan, _ in random_steps(seed):
            size = sizes.fitting(plan)
            seen.add(size)
            assert len(plan.tokens) <= size.tokens
            assert len(plan.lengths) <= size.sequences
            assert sum(-(-length // size.tile_rows) for length in plan.lengths) <= size.tiles
    assert {size.tile_rows for size in seen} == {1, 16}


def test_graphs_are_captured_from_the_largest_on() -> None:
    tokens = [size.tokens for size in Sizes(2048, 32)]
    assert tokens == sorted(tokens, reverse=True)
