"""Random steps for what runs them: decodes and prefill chunks over a small KV cache."""

from __future__ import annotations

import random
from collections.abc import Iterator

from llm_backend.engine.plan import StepPlan
from llm_backend.engine.scheduler import Chunk
from llm_backend.engine.sequence import Sequence
from llm_backend.runtime.ipc import SamplingParams

BLOCK = 16
NUM_BLOCKS = 64
VOCABULARY = 128


def random_steps(seed: int) -> Iterator[tuple[StepPlan, list[list[int]]]]:
    """Yield plans that mix decodes and prefill chunks, with the tokens that each sample ends."""
    dice = random.Random(seed)
    free = dice.sample(range(NUM_BLOCKS), NUM_BLOCKS)
    sequences = []
    for i in range(6):
        made = Sequence(
            str(i), dice.choices(range(VOCABULARY), k=dice.randrange(1, 120)), SamplingParams(), 500
        )
        made.blocks = [free.pop() for _ in range(9)]
        sequences.append(made)
    for _ in range(6):
        going = dice.sample(sequences, dice.randrange(1, 7))
        chunks = [
            Chunk(s, dice.choice([s.num_uncomputed, -(-s.num_uncomputed // 2)])) for s in going
        ]
        chunks.sort(key=lambda c: c.length)
        sampled = [c.sequence for c in chunks if c.samples]
        yield StepPlan.of(chunks), [list(s.tokens) for s in sampled]
        for chunk in chunks:
            chunk.sequence.num_computed += chunk.length
        for each in sampled:
            each.tokens.append(dice.randrange(VOCABULARY))
