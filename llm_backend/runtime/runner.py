"""Runs step plans on one rank: the model's shard and its KV cache."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from llm_backend.engine.plan import StepPlan
from llm_backend.errors import EngineStartError
from llm_backend.runtime import huge_pages
from llm_backend.runtime.attention import LayerCache, RaggedBatch
from llm_backend.runtime.huge_pages import Arena
from llm_backend.runtime.model import LoadedModel
from llm_backend.runtime.progress import Progress


class Runner:
    """One rank's model and KV cache.

    Args:
        model: this rank's shard.
        caches: of each layer, from `allocate`.
        block_size: tokens of a KV cache block.
        device: where both live.
        progress: counts the steps.
    """

    def __init__(
        self,
        model: LoadedModel,
        caches: list[LayerCache],
        block_size: int,
        device: torch.device,
        progress: Progress,
    ) -> None:
        self._model = model
        self._caches = caches
        self._block_size = block_size
        self._device = device
        self._progress = progress

    @torch.inference_mode()
    def run(self, plan: StepPlan) -> Tensor:
        """Compute one step and return the logits [sampled, vocabulary] of its sampling rows."""
        ends = np.cumsum(plan.lengths)
        sampled = torch.from_numpy(ends[plan.samples == 1] - 1).to(self._device)
        tokens = torch.from_numpy(plan.tokens).long().to(self._device)
        positions = torch.from_numpy(_positions(plan, ends)).to(self._device)
        batch = RaggedBatch.of(plan, self._caches, self._block_size, self._device)
        logits = self._model.forward(tokens, positions, batch, sampled)
        self._progress.steps += 1
        return logits


def _positions(plan: StepPlan, ends: np.ndarray) -> np.ndarray:
    """Return [tokens] each token's position in its sequence."""
    offsets = plan.starts - (ends - plan.lengths)
    return np.arange(len(plan.tokens)) + np.repeat(offsets, plan.lengths)


def block_bytes(shapes: dict[int, tuple[int, int]], block_size: int, dtype: torch.dtype) -> int:
    """Return the bytes of one block on one rank, keys and values of all layers."""
    per_token = sum(2 * heads * size for heads, size in shapes.values())
    return per_token * block_size * dtype.itemsize


def allocate(
    shapes: dict[int, tuple[int, int]], num_slots: int, dtype: torch.dtype, device: torch.device
) -> list[LayerCache]:
    """Return the KV cache of one rank, zeroed, so that its memory is really there from the start.

    Args:
        shapes: heads and head size of each layer.
        num_slots: tokens that fit.
        dtype: of keys and values.
        device: where they live.

    Raises:
        EngineStartError: there is not enough memory.
    """
    num_bytes = block_bytes(shapes, num_slots, dtype)
    try:
        if device.type == "cpu":
            memory = huge_pages.allocate(num_bytes).zero_()
        else:
            memory = torch.zeros(num_bytes, dtype=torch.uint8, device=device)
    except (RuntimeError, MemoryError, OSError) as error:
        raise EngineStartError(
            f"No memory for a KV cache of {num_slots} tokens; lower LLM_KV_CACHE_MIB. ({error})"
        ) from error
    arena = Arena(memory)
    places = [(num_slots, *shapes[i]) for i in range(len(shapes))]
    return [LayerCache(arena.take(place, dtype), arena.take(place, dtype)) for place in places]
