"""A step's integers on the GPU: always in the same places, so that CUDA graphs can read them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from llm_backend.engine.plan import Ints, StepPlan

TILE_COLUMNS = 4
"""Of a tile: sequence, first row among the step's, rows, position of the first."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """The largest step.

    Attributes:
        tokens: of one step.
        sequences: of one step.
        context: tokens of one sequence.
        block_size: tokens of one KV cache block.
    """

    tokens: int
    sequences: int
    context: int
    block_size: int

    @property
    def blocks(self) -> int:
        """KV cache blocks of one sequence."""
        return -(-self.context // self.block_size)


class Inputs:
    """One buffer on the host and one on the device, and views of both.

    Attributes:
        tokens: [tokens] ids, laid end to end, then anything.
        positions: [tokens] of each in its sequence.
        slots: [tokens] where each token's key and value are written; -1 is nowhere.
        sampled: [sequences] the rows whose logits are wanted, then 0.
        tiles: [tiles, 4] see `TILE_COLUMNS`; those without rows are padding.
        table: [sequences, blocks] KV cache blocks of each, then anything.

    Args:
        capacity: what must fit.
        device: where the views above are.
    """

    def __init__(self, capacity: Capacity, device: torch.device) -> None:
        self._block_size = capacity.block_size
        tokens, sequences = capacity.tokens, capacity.sequences
        shapes = [
            *[(tokens,)] * 3,
            (sequences,),
            (tokens + sequences, TILE_COLUMNS),
            # At the end, so that only the rows in use need be copied.
            (sequences, capacity.blocks),
        ]
        sizes = [int(np.prod(shape)) for shape in shapes]
        self._host = torch.zeros(sum(sizes), dtype=torch.int32, pin_memory=device.type == "cuda")
        self._device = torch.zeros(sum(sizes), dtype=torch.int32, device=device)
        self._before_table = sum(sizes[:-1])
        views = [
            piece.view(shape)
            for piece, shape in zip(torch.split(self._device, sizes), shapes, strict=True)
        ]
        self.tokens, self.positions, self.slots, self.sampled, self.tiles, self.table = views
        self._arrays = [
            piece.view(shape).numpy()
            for piece, shape in zip(torch.split(self._host, sizes), shapes, strict=True)
        ]

        self.clear()

    def clear(self) -> None:
        """Bring a step without tokens: its rows are valid at every size, and nothing is written."""
        self._device.zero_()
        self.slots.fill_(-1)

    def fill(self, plan: StepPlan, tile_rows: int) -> None:
        """Bring a plan to the device.

        The host's buffer must not be on its way from an earlier call: whoever reads the logits of
        a step has waited for it.

        Args:
            plan: one step.
            tile_rows: tokens of a tile at most.
        """
        tokens, positions, slots, sampled, tiles, table = self._arrays
        count, ends = len(plan.lengths), np.cumsum(plan.lengths)
        begins = ends - plan.lengths
        total = len(plan.tokens)
        owner = np.repeat(np.arange(count), plan.lengths)
        tokens[:total] = plan.tokens
        positions[:total] = np.arange(total) + np.repeat(plan.starts - begins, plan.lengths)
        used = np.arange(table.shape[1]) < plan.block_counts[:, None]
        table[:count][used] = plan.blocks
        blocks = table[owner, positions[:total] // self._block_size]
        slots[:total] = blocks * self._block_size + positions[:total] % self._block_size
        slots[total:] = -1
        rows = ends[plan.samples == 1] - 1
        sampled[: len(rows)] = rows
        sampled[len(rows) :] = 0
        _lay_tiles(plan, begins, tile_rows, tiles)
        end = self._before_table + count * table.shape[1]
        self._device[:end].copy_(self._host[:end], non_blocking=True)


def _lay_tiles(plan: StepPlan, begins: Ints, tile_rows: int, tiles: Ints) -> None:
    """Cut every sequence's tokens into tiles."""
    counts = -(-plan.lengths // tile_rows)
    owner = np.repeat(np.arange(len(counts)), counts)
    total = len(owner)
    skipped = (np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)) * tile_rows
    tiles[:total, 0] = owner
    tiles[:total, 1] = begins[owner] + skipped
    tiles[:total, 2] = np.minimum(tile_rows, plan.lengths[owner] - skipped)
    tiles[:total, 3] = plan.starts[owner] + skipped
    tiles[total:, 2] = 0
