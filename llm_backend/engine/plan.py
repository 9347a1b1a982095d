"""What rank 0 tells every rank to compute in one step: a fixed layout of 32-bit integers.

    [sequences, tokens, blocks] [length, start, blocks, samples] per sequence, [token ids], [blocks]

A plan is complete in itself: ranks keep no table of sequences, so they cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llm_backend.engine.scheduler import Chunk

Ints = npt.NDArray[np.int32]
_HEADER = 3
_COLUMNS = 4


@dataclass(frozen=True, slots=True)
class StepPlan:
    """The ragged batch of one step, chunks of one token first.

    Attributes:
        lengths: [sequences] tokens to compute.
        starts: [sequences] position of the first of them: the tokens already in the cache.
        samples: [sequences] 1 where the logits after the last token are wanted.
        tokens: [sum(lengths)] token ids, one sequence after the other.
        block_counts: [sequences] how many entries of `blocks` are each sequence's.
        blocks: [sum(block_counts)] KV cache blocks of each sequence, in order.
    """

    lengths: Ints
    starts: Ints
    samples: Ints
    tokens: Ints
    block_counts: Ints
    blocks: Ints

    @property
    def num_decodes(self) -> int:
        """How many of the first sequences have one token to compute."""
        longer = np.flatnonzero(self.lengths > 1)
        return int(longer[0]) if len(longer) else len(self.lengths)

    @classmethod
    def of(cls, chunks: Iterable[Chunk]) -> StepPlan:
        """Return the plan that computes `chunks`."""
        rows: list[tuple[int, int, int, bool]] = []
        tokens: list[int] = []
        blocks: list[int] = []
        for chunk in chunks:
            sequence, start = chunk.sequence, chunk.sequence.num_computed
            rows.append((chunk.length, start, len(sequence.blocks), chunk.samples))
            tokens += sequence.tokens[start : start + chunk.length]
            blocks += sequence.blocks
        table = np.array(rows, dtype=np.int32).reshape(-1, _COLUMNS)
        return cls(
            lengths=table[:, 0],
            starts=table[:, 1],
            block_counts=table[:, 2],
            samples=table[:, 3],
            tokens=np.array(tokens, dtype=np.int32),
            blocks=np.array(blocks, dtype=np.int32),
        )

    def to_array(self) -> Ints:
        """Return the plan as one vector, see the module's layout."""
        sizes = np.array([len(self.lengths), len(self.tokens), len(self.blocks)], dtype=np.int32)
        columns = (self.lengths, self.starts, self.block_counts, self.samples)
        table = np.stack(columns, axis=1).reshape(-1)
        return np.concatenate([sizes, table, self.tokens, self.blocks])

    @classmethod
    def from_array(cls, vector: Ints) -> StepPlan:
        """Return the plan that `to_array` wrote. Its arrays are views of `vector`."""
        num_sequences, num_tokens, _ = (int(n) for n in vector[:_HEADER])
        end = _HEADER + _COLUMNS * num_sequences
        table = vector[_HEADER:end].reshape(num_sequences, _COLUMNS)
        return cls(
            lengths=table[:, 0],
            starts=table[:, 1],
            block_counts=table[:, 2],
            samples=table[:, 3],
            tokens=vector[end : end + num_tokens],
            blocks=vector[end + num_tokens :],
        )
