"""The attention layers of a step on a GPU: one kernel for decodes, prefill chunks, and both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import triton
from torch import Tensor, nn

from llm_backend.runtime.attention import LayerCache
from llm_backend.runtime.gpu import kernels
from llm_backend.runtime.gpu.inputs import TILE_COLUMNS, Inputs

_LEAST = 16
"""Smallest side of a product of `tl.dot`."""
_KEYS_BYTES = 8192
"""Of keys in one turn of the loop: 64 tokens of 64 numbers in bf16."""


@dataclass(frozen=True, slots=True)
class PagedBatch:
    """A step of a fixed size, for the attention layers.

    Attributes:
        caches: of each layer.
        inputs: the step's tokens and their places, on the device.
        num_tokens: rows of the model's input, padding included.
        num_tiles: programs of the kernel, padding included.
        tile_rows: tokens of a tile at most.
        block_size: tokens of a KV cache block.
    """

    caches: list[LayerCache]
    inputs: Inputs
    num_tokens: int
    num_tiles: int
    tile_rows: int
    block_size: int

    def attend(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, options: dict[str, Any]
    ) -> Tensor:
        """Write the step's keys and values in place, then let every token look at its own context.

        See `Batch.attend`; what comes back for rows of padding is undefined.
        """
        cache = self.caches[int(module.layer_idx)]  # type: ignore[arg-type]
        heads, size = key.shape[1], key.shape[3]
        query, key, value = (_with_rows(each[0]) for each in (query, key, value))
        kernels.write[(self.num_tokens,)](
            key,
            value,
            cache.keys,
            cache.values,
            self.inputs.slots,
            *key.stride()[:2],
            *value.stride()[:2],
            heads=heads,
            size=size,
            width=triton.next_power_of_2(heads * size),
        )
        group = query.shape[0] // heads
        out = query.new_empty(self.num_tokens, query.shape[0], size)
        scaling = options.get("scaling")
        padded = max(_LEAST, triton.next_power_of_2(size))
        kernels.attend[(self.num_tiles, heads)](
            query,
            cache.keys,
            cache.values,
            out,
            self.inputs.tiles,
            self.inputs.table,
            size**-0.5 if scaling is None else scaling,
            *query.stride()[:2],
            self.inputs.table.stride(0),
            heads=heads,
            group=group,
            size=size,
            padded=padded,
            block_size=self.block_size,
            rows=max(_LEAST, triton.next_power_of_2(self.tile_rows * group)),
            columns=max(_LEAST, _KEYS_BYTES // (padded * key.element_size())),
            tile_columns=TILE_COLUMNS,
        )
        return out[None]


def _with_rows(tensor: Tensor) -> Tensor:
    """Return [heads, tokens, size] with each row's numbers beside each other."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()
