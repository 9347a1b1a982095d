"""The Triton kernels: writing keys and values into the cache, and attention over it.

After FlashAttention (Dao et al., 2022; online softmax) over a block table (Kwon et al., 2023).
Everything that differs from step to step is read from memory, so that a CUDA graph that was
captured once replays any batch of its size.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def write(
    key,
    value,
    keys,
    values,
    slots,
    key_head,
    key_token,
    value_head,
    value_token,
    heads: tl.constexpr,
    size: tl.constexpr,
    width: tl.constexpr,
):
    """Write one token's key and value into its slot; a token of padding has slot -1."""
    token = tl.program_id(0)
    slot = tl.load(slots + token).to(tl.int64)
    if slot >= 0:
        place = tl.arange(0, width)
        inside = place < heads * size
        head, element = place // size, place % size
        found = tl.load(key + head * key_head + token * key_token + element, mask=inside)
        tl.store(keys + slot * heads * size + place, found, mask=inside)
        found = tl.load(value + head * value_head + token * value_token + element, mask=inside)
        tl.store(values + slot * heads * size + place, found, mask=inside)


@triton.jit
def attend(
    query,
    keys,
    values,
    out,
    tiles,
    table,
    scaling,
    query_head,
    query_token,
    table_row,
    heads: tl.constexpr,
    group: tl.constexpr,
    size: tl.constexpr,
    padded: tl.constexpr,
    block_size: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
    tile_columns: tl.constexpr,
):
    """Attend from the tokens of one tile, under one key-value head.

    A tile is a few consecutive tokens of one sequence. The query heads of a group read the same
    keys; laid under each other they fill the rows of a tensor core's product: row r is token
    r // group, and of the group's heads the r % group-th.
    """
    tile = tiles + tl.program_id(0) * tile_columns
    head = tl.program_id(1)
    sequence = tl.load(tile)
    first = tl.load(tile + 1)
    count = tl.load(tile + 2)
    start = tl.load(tile + 3)
    if count > 0:
        row = tl.arange(0, rows)
        token = row // group
        query_index = head * group + row % group
        element = tl.arange(0, padded)
        inside = token < count
        in_head = element < size
        asked = tl.load(
            query
            + query_index[:, None] * query_head
            + (first + token)[:, None] * query_token
            + element[None, :],
            mask=inside[:, None] & in_head[None, :],
            other=0.0,
        )
        highest = tl.full([rows], float("-inf"), tl.float32)
        total = tl.zeros([rows], tl.float32)
        mixed = tl.zeros([rows, padded], tl.float32)
        end = start + count
        for begin in range(0, end, columns):
            position = begin + tl.arange(0, columns)
            there = position < end
            block = tl.load(
                table + sequence * table_row + position // block_size, mask=there, other=0
            )
            slot = block.to(tl.int64) * block_size + position % block_size
            place = (slot * heads + head)[:, None] * size + element[None, :]
            seen = there[:, None] & in_head[None, :]
            key = tl.load(keys + place, mask=seen, other=0.0)
            # fp32 would be rounded to tf32 for the tensor cores, but for "ieee".
            scores = tl.dot(asked, tl.trans(key), input_precision="ieee") * scaling
            scores = tl.where(position[None, :] <= (start + token)[:, None], scores, float("-inf"))
            # Position 0 is seen by every row, so that no row's highest stays -inf.
            higher = tl.maximum(highest, tl.max(scores, 1))
            weights = tl.exp(scores - higher[:, None])
            shrink = tl.exp(highest - higher)
            total = total * shrink + tl.sum(weights, 1)
            value = tl.load(values + place, mask=seen, other=0.0)
            mixed = mixed * shrink[:, None] + tl.dot(
                weights.to(value.dtype), value, input_precision="ieee"
            )
            highest = higher
        result = mixed / total[:, None]
        place = (first + token)[:, None] * (heads * group * size) + (
            query_index[:, None] * size + element[None, :]
        )
        tl.store(
            out + place,
            result.to(out.dtype.element_ty),
            mask=inside[:, None] & in_head[None, :],
        )
