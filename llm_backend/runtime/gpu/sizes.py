"""The few sizes that steps are padded to on a GPU: a CUDA graph is captured for each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from llm_backend.engine.plan import StepPlan

_TILE_ROWS = 16
"""Tokens of a tile in a step with prefills: with the heads of a group, 64 rows or so."""


@dataclass(frozen=True, slots=True)
class Size:
    """What a CUDA graph is captured for.

    Attributes:
        tokens: rows of the model's input.
        sequences: logits that come out.
        tile_rows: tokens of a tile at most.
    """

    tokens: int
    sequences: int
    tile_rows: int

    @property
    def tiles(self) -> int:
        """Enough for any step of this size."""
        return self.tokens // self.tile_rows + (self.sequences if self.tile_rows > 1 else 0)


def steps(least: int, most: int, finest: int) -> Iterator[int]:
    """Yield `least` to `most` in steps of a quarter or less, but of `finest` where that is more.

    Padding costs computation, and every size a graph's memory and a moment of the start.
    """
    size = least
    while size < most:
        yield size
        size += min(size, max(finest, 2 ** (size.bit_length() - 3)))
    yield most


class Sizes:
    """All sizes up to the largest step's.

    Args:
        tokens: of one step at most.
        sequences: of one step at most.
    """

    def __init__(self, tokens: int, sequences: int) -> None:
        self._decodes = [Size(n, n, 1) for n in steps(1, sequences, 8)]
        self._mixed = [Size(n, sequences, _TILE_ROWS) for n in steps(32, tokens, 32)]

    def __iter__(self) -> Iterator[Size]:
        """Yield all of them, the largest first."""
        every = [*self._mixed, *self._decodes]
        yield from sorted(every, key=lambda size: size.tokens, reverse=True)

    def fitting(self, plan: StepPlan) -> Size:
        """Return the smallest that a step fits in."""
        only_decodes = plan.num_decodes == len(plan.lengths)
        sizes = self._decodes if only_decodes else self._mixed
        return next(size for size in sizes if size.tokens >= len(plan.tokens))
