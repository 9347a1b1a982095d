"""A plan on the device says what the plan says."""

from __future__ import annotations

import pytest
import torch

from llm_backend.engine.plan import StepPlan
from llm_backend.runtime.gpu.inputs import Capacity, Inputs
from tests.support.steps import BLOCK, random_steps

CAPACITY = Capacity(tokens=720, sequences=6, context=144, block_size=BLOCK)


@pytest.mark.parametrize("tile_rows", [1, 4, 16])
def test_every_token_is_in_one_tile_with_its_place(tile_rows: int) -> None:
    inputs = Inputs(CAPACITY, torch.device("cpu"))
    for seed in range(3):
        for plan, _ in random_steps(seed):
            inputs.fill(plan, tile_rows)
            assert _as_computed(inputs) == _as_planned(plan)


def _as_planned(plan: StepPlan) -> list[tuple[int, int, int]]:
    """Return the token, position and slot of each of a plan's rows."""
    rows, token, block = [], 0, 0
    for i, length in enumerate(plan.lengths.tolist()):
        blocks = plan.blocks[block : block + plan.block_counts[i]].tolist()
        for position in range(plan.starts[i], plan.starts[i] + length):
            slot = blocks[position // BLOCK] * BLOCK + position % BLOCK
            rows.append((int(plan.tokens[token]), position, slot))
            token += 1
        block += len(blocks)
    return rows


def _as_computed(inputs: Inputs) -> list[tuple[int, int, int]]:
    """Return the same as the kernels would take it from the tiles and the block table."""
    rows: dict[int, tuple[int, int, int]] = {}
    for sequence, first, count, start in inputs.tiles.tolist():
        for i in range(count):
            row, position = first + i, start + i
            slot = int(inputs.table[sequence, position // BLOCK]) * BLOCK + position % BLOCK
            assert row not in rows
            assert (position, slot) == (int(inputs.positions[row]), int(inputs.slots[row]))
            rows[row] = (int(inputs.tokens[row]), position, slot)
    assert (inputs.slots[len(rows) :] == -1).all()
    return [rows[row] for row in range(len(rows))]


def test_rows_that_sample_come_first_and_the_rest_are_valid_rows() -> None:
    inputs = Inputs(CAPACITY, torch.device("cpu"))
    for plan, _ in random_steps(5):
        inputs.fill(plan, 16)
        ends = plan.lengths.cumsum() - 1
        wanted = ends[plan.samples == 1].tolist()
        assert inputs.sampled.tolist() == wanted + [0] * (CAPACITY.sequences - len(wanted))


@pytest.mark.parametrize("used", [False, True])
def test_what_graphs_are_captured_with_writes_and_attends_nothing(used: bool) -> None:
    inputs = Inputs(CAPACITY, torch.device("cpu"))
    if used:
        inputs.fill(next(random_steps(0))[0], 16)
        inputs.clear()
    assert (inputs.slots == -1).all()
    assert (inputs.tiles == 0).all()
    assert (inputs.sampled == 0).all()  # a row of every size
