"""Attention over the paged KV cache, for any Hugging Face decoder.

The model runs on the step's tokens laid end to end, [1, tokens], and comes here through
`AttentionInterface` in every layer. Which token belongs to whom, and where its keys and values go,
travels beside them as a `Batch`: here the one in plain torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from llm_backend.engine.plan import StepPlan
from llm_backend.errors import EngineStartError

NAME = "isthmus_paged"


class Batch(Protocol):
    """A step, as the attention layers see it."""

    def attend(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, options: dict[str, Any]
    ) -> Tensor:
        """Compute one layer's attention.

        Args:
            module: the attention layer, for its `layer_idx`.
            query: [1, query heads, tokens, head size].
            key: [1, heads, tokens, head size]; likewise `value`.
            options: transformers' own; `scaling` of the scores, None is 1 / sqrt(head size).

        Returns:
            [1, tokens, query heads, head size].
        """


@dataclass(frozen=True, slots=True)
class LayerCache:
    """Keys and values of one layer on this rank, each [slots, heads, head size].

    Slot `block * block_size + offset` holds one token. They are written in place.
    """

    keys: Tensor
    values: Tensor


@dataclass(frozen=True, slots=True)
class Prefill:
    """One sequence with more than one token to compute.

    Attributes:
        rows: its tokens among the step's.
        slots: [context] where the keys and values of all its tokens up to the last are.
        mask: [tokens, context] True where a token may look.
    """

    rows: slice
    slots: Tensor
    mask: Tensor


@dataclass(frozen=True, slots=True)
class RaggedBatch:
    """A step's tokens and their places in the cache.

    Attributes:
        caches: of each layer.
        slots: [tokens] where each token's key and value are written.
        num_decodes: the first tokens, which are their sequences' only ones in this step.
        decode_slots: [num_decodes, longest context] the context of each, padded at the end.
        decode_mask: [num_decodes, 1, 1, longest context] True where there is context.
        prefills: the other sequences.
    """

    caches: list[LayerCache]
    slots: Tensor
    num_decodes: int
    decode_slots: Tensor
    decode_mask: Tensor
    prefills: list[Prefill]

    @classmethod
    def of(
        cls, plan: StepPlan, caches: list[LayerCache], block_size: int, device: torch.device
    ) -> RaggedBatch:
        """Lay out a plan: all index arithmetic of a step, done once for all layers."""
        contexts = _context_slots(plan, block_size)
        decodes = contexts[: plan.num_decodes]
        padded, mask = _pad(decodes)
        return cls(
            caches=caches,
            slots=torch.cat(
                [c[start:] for c, start in zip(contexts, plan.starts.tolist(), strict=True)]
            ).to(device),
            num_decodes=plan.num_decodes,
            decode_slots=padded.to(device),
            decode_mask=mask[:, None, None, :].to(device),
            prefills=list(_prefills(plan, contexts, device)),
        )

    def attend(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, options: dict[str, Any]
    ) -> Tensor:
        """Write the step's keys and values in place, then let every token look at its own context.

        See `Batch.attend`.
        """
        cache = self.caches[int(module.layer_idx)]  # type: ignore[arg-type]
        scaling = options.get("scaling")
        cache.keys[self.slots] = key[0].transpose(0, 1)
        cache.values[self.slots] = value[0].transpose(0, 1)
        out = query.new_empty(query.shape[2], query.shape[1], value.shape[3])
        if self.num_decodes:
            attended = scaled_dot_product_attention(
                query[0, :, : self.num_decodes].transpose(0, 1)[:, :, None],
                cache.keys[self.decode_slots].transpose(1, 2),
                cache.values[self.decode_slots].transpose(1, 2),
                attn_mask=self.decode_mask,
                scale=scaling,
                enable_gqa=True,
            )
            out[: self.num_decodes] = attended[:, :, 0]
        for prefill in self.prefills:
            attended = scaled_dot_product_attention(
                query[:, :, prefill.rows],
                cache.keys[prefill.slots].transpose(0, 1)[None],
                cache.values[prefill.slots].transpose(0, 1)[None],
                attn_mask=prefill.mask,
                scale=scaling,
                enable_gqa=True,
            )
            out[prefill.rows] = attended[0].transpose(0, 1)
        return out[None]


def _context_slots(plan: StepPlan, block_size: int) -> list[Tensor]:
    """Return, for each sequence, the slots of its tokens up to the last one of this step."""
    blocks = torch.from_numpy(plan.blocks).long()
    all_slots = (blocks[:, None] * block_size + torch.arange(block_size)).view(-1)
    per_sequence = torch.split(all_slots, (plan.block_counts * block_size).tolist())
    lengths = (plan.starts + plan.lengths).tolist()
    return [slots[:n] for slots, n in zip(per_sequence, lengths, strict=True)]


def _pad(contexts: list[Tensor]) -> tuple[Tensor, Tensor]:
    if not contexts:
        empty = torch.empty(0, 0)
        return empty.long(), empty.bool()
    lengths = torch.tensor([len(c) for c in contexts])
    padded = nn.utils.rnn.pad_sequence(contexts, batch_first=True)
    return padded, torch.arange(padded.shape[1]) < lengths[:, None]


def _prefills(plan: StepPlan, contexts: list[Tensor], device: torch.device) -> list[Prefill]:
    prefills, row = [], plan.num_decodes
    for i in range(plan.num_decodes, len(plan.lengths)):
        length, start = int(plan.lengths[i]), int(plan.starts[i])
        reach = torch.arange(start, start + length)[:, None]
        mask = torch.arange(start + length) <= reach
        prefills.append(Prefill(slice(row, row + length), contexts[i].to(device), mask.to(device)))
        row += length
    return prefills


@dataclass(slots=True)
class ShapeProbe:
    """Stands in for the caches in the first forward pass and notes what each layer needs.

    The shapes after DeepSpeed's sharding are asked of the model itself, so that no architecture's
    attribute names are known here.
    """

    shapes: dict[int, tuple[int, int]]

    def attend(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, options: dict[str, Any]
    ) -> Tensor:
        """Note a layer's heads and head size, and refuse attention that we do not compute."""
        for option in ("sliding_window", "softcap", "position_bias", "s_aux"):
            if options.get(option) is not None:
                raise EngineStartError(
                    f"The model's attention uses {option!r}, which this engine does not support."
                )
        if value.shape != key.shape:
            raise EngineStartError(
                f"The model's values have the size {value.shape[3]}, its keys {key.shape[3]}; this "
                "engine's KV cache has one size for both."
            )
        self.shapes[int(module.layer_idx)] = (key.shape[1], key.shape[3])  # type: ignore[arg-type]
        return query.transpose(1, 2)


def register() -> None:
    """Make the attention known to transformers as `NAME`.

    A mask function of that name is left out on purpose: without one, no mask is made, nor are the
    positions searched for packed sequences, for which the host would wait for the GPU.
    """
    AttentionInterface.register(NAME, _attention)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _: Tensor | None,
    *,
    batch: Batch,
    **options: Any,
) -> tuple[Tensor, None]:
    return batch.attend(module, query, key, value, options), None
