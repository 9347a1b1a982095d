"""A model without tensors: it remembers which token is in which KV cache slot, nothing else.

The next token is a hash of the tokens that it finds in the slots of a sequence's blocks. So the
engine's answer equals `reference` only if every block holds what its sequence believes.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Callable

import numpy as np
import pytest

from llm_backend.engine.engine import Engine, Sampler
from llm_backend.engine.kv_cache import BlockPool
from llm_backend.engine.plan import StepPlan
from llm_backend.engine.scheduler import Limits, Scheduler
from llm_backend.engine.sequence import Sequence
from llm_backend.runtime.ipc import TokenLogprob

VOCAB = 50
EOS = 7
MAX_LEN = 64


def next_token(tokens: list[int]) -> int:
    """Return what the model says after `tokens`."""
    return zlib.crc32(array("i", tokens).tobytes()) % VOCAB


class SlotModel:
    """Runs plans on remembered tokens. Keeps the plans that it was given."""

    def __init__(self, num_slots: int, block_size: int) -> None:
        self.slots = np.full(num_slots, -1)
        self.block_size = block_size
        self.plans: list[StepPlan] = []

    def run(self, plan: StepPlan) -> list[int]:
        plan = StepPlan.from_array(plan.to_array())
        self.plans.append(plan)
        answers = []
        blocks = np.split(plan.blocks, np.cumsum(plan.block_counts)[:-1])
        tokens = np.split(plan.tokens, np.cumsum(plan.lengths)[:-1])
        for i, start in enumerate(plan.starts):
            slots = (blocks[i][:, None] * self.block_size + np.arange(self.block_size)).ravel()
            end = start + plan.lengths[i]
            self.slots[slots[start:end]] = tokens[i]
            if plan.samples[i]:
                answers.append(next_token(self.slots[slots[:end]].tolist()))
        return answers


class Verbatim:
    """A sampler for a model whose logits are the answer."""

    def sample(
        self, logits: list[int], sequences: list[Sequence]
    ) -> list[tuple[int, TokenLogprob | None]]:
        assert len(logits) == len(sequences)
        return [(token, None) for token in logits]


class World:
    """An engine over a `SlotModel`, with everything inside it in reach."""

    def __init__(
        self,
        num_blocks: int = 64,
        block_size: int = 4,
        max_num_seqs: int = 4,
        max_batched_tokens: int = 16,
        prefix_cache: bool = True,
        sampler: Sampler[list[int]] | None = None,
    ) -> None:
        self.now = 0.0
        self.pool = BlockPool(num_blocks, block_size, prefix_cache)
        self.scheduler = Scheduler(self.pool, Limits(max_num_seqs, max_batched_tokens))
        self.model = SlotModel(num_blocks * block_size, block_size)
        self.engine: Engine[list[int]] = Engine(
            self.scheduler,
            self.model,
            sampler or Verbatim(),
            eos_token_ids=frozenset([EOS]),
            max_model_len=min(MAX_LEN, num_blocks * block_size),
            vocab_size=VOCAB,
            clock=lambda: self.now,
        )


@pytest.fixture
def make_world() -> Callable[..., World]:
    """Return the class: pytest imports test modules apart, so they cannot import it."""
    return World


@pytest.fixture
def reference() -> Callable[..., list[int]]:
    """Return the function that computes an answer alone and from scratch."""

    def answer(prompt: list[int], max_tokens: int, ignore_eos: bool = False) -> list[int]:
        tokens = list(prompt)
        while len(tokens) < len(prompt) + max_tokens:
            tokens.append(next_token(tokens))
            if tokens[-1] == EOS and not ignore_eos:
                break
        return tokens[len(prompt) :]

    return answer
