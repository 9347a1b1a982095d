from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from llm_backend.engine.plan import StepPlan
from llm_backend.engine.scheduler import Chunk
from llm_backend.engine.sequence import Sequence
from llm_backend.runtime.ipc import SamplingParams


def chunk(tokens: list[int], computed: int, length: int, blocks: list[int]) -> Chunk:
    sequence = Sequence("r", tokens, SamplingParams(), max_length=100)
    sequence.num_computed = computed
    sequence.blocks = blocks
    return Chunk(sequence, length)


def test_a_plan_says_what_to_compute_where() -> None:
    decode = chunk([1, 2, 3], computed=2, length=1, blocks=[4])
    prefill = chunk([5, 6, 7, 8], computed=1, length=2, blocks=[9, 2])

    plan = StepPlan.of([decode, prefill])

    assert plan.tokens.tolist() == [3, 6, 7]
    assert plan.lengths.tolist() == [1, 2]
    assert plan.starts.tolist() == [2, 1]
    assert plan.samples.tolist() == [1, 0]
    assert plan.block_counts.tolist() == [1, 2]
    assert plan.blocks.tolist() == [4, 9, 2]
    assert plan.num_decodes == 1


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9), st.integers(1, 4)), max_size=20))
def test_a_plan_survives_the_wire(rows: list[tuple[int, int, int]]) -> None:
    chunks = [
        chunk(list(range(start + length)), start, length, list(range(blocks)))
        for length, start, blocks in rows
    ]
    plan = StepPlan.of(chunks)

    again = StepPlan.from_array(plan.to_array())

    for name in ("lengths", "starts", "samples", "tokens", "block_counts", "blocks"):
        assert np.array_equal(getattr(again, name), getattr(plan, name)), name
