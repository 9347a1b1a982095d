"""Runs step plans on one rank through the C++ kernels, for models of Llama's shape."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from deepspeed import comm
from torch import Tensor, nn

from llm_backend.engine.plan import StepPlan
from llm_backend.runtime import huge_pages
from llm_backend.runtime.attention import LayerCache
from llm_backend.runtime.fast import library
from llm_backend.runtime.fast.library import Kernels
from llm_backend.runtime.fast.llama import Llama, Sizes
from llm_backend.runtime.huge_pages import Arena
from llm_backend.runtime.model import LoadedModel
from llm_backend.runtime.progress import Progress

_CACHE_LINE = 64
_FORMATS = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model and kernels that fit each other; nothing was taken or allocated yet."""

    llama: Llama
    kernels: Kernels

    def shared_bytes(self, sizes: Sizes) -> int:
        """Return the size of the memory through which the ranks add up; see interface.h.

        Most of it is logits, as many rows as a step could sample; what is never written takes up
        no memory.
        """
        part, logits = sizes.max_tokens * self.llama.hidden, sizes.max_tokens * self.llama.columns
        floats: int = 2 * sizes.ranks * part + (sizes.ranks - 1) * logits
        return sizes.ranks * _CACHE_LINE + floats * ctypes.sizeof(ctypes.c_float)


def prepare(model: LoadedModel, sizes: Sizes, cache_dir: Path) -> Prepared:
    """See whether the kernels can run this model here; compiles them the first time.

    Raises:
        UnavailableError: the model or the machine has to take the plain path.
    """
    llama = Llama(model.module, sizes)
    return Prepared(llama, library.load(cache_dir, _FORMATS[llama.embedding.dtype]))


class FastRunner:
    """One rank's packed weights and KV cache. Takes the model over: its weights are freed.

    Args:
        prepared: from `prepare`, which every rank must have passed.
        model: this rank's shard.
        caches: of each layer; the kernels use the memory in a layout of their own.
        sizes: limits.
        progress: counts the steps.
        shared: `shared_bytes` of memory of all ranks; without it they add up through DeepSpeed.
    """

    def __init__(
        self,
        prepared: Prepared,
        model: LoadedModel,
        caches: list[LayerCache],
        sizes: Sizes,
        progress: Progress,
        shared: Tensor | None = None,
    ) -> None:
        self._kernels = prepared.kernels
        self._progress = progress
        self._vocab_size = model.vocab_size
        self._ranks = sizes.ranks
        self._shared = torch.empty(0) if shared is None else shared
        parts = sizes.max_tokens if shared is None else 0
        self._partial = torch.zeros(parts, prepared.llama.hidden)
        self._all_reduce = library.AllReduce(self._add_ranks)
        self._keep: list[object] = [caches]
        arena = Arena(huge_pages.allocate(model.weights_bytes))
        self._decoder = self._create(prepared.llama, caches, sizes, arena)
        _release(model.module)

    def run(self, plan: StepPlan) -> Tensor:
        """Compute one step and return the logits [sampled, vocabulary] of its sampling rows."""
        sampled = (np.cumsum(plan.lengths, dtype=np.int32) - 1)[plan.samples == 1]
        arrays = [
            np.ascontiguousarray(a)
            for a in (
                plan.tokens,
                plan.lengths,
                plan.starts,
                plan.block_counts,
                plan.blocks,
                sampled,
            )
        ]
        logits = torch.empty(len(sampled), self._vocab_size)
        batch = library.Batch(
            len(plan.lengths), len(plan.tokens), len(sampled), *(a.ctypes.data for a in arrays)
        )
        self._kernels.step(self._decoder, ctypes.byref(batch), logits.data_ptr())
        if self._ranks > 1 and len(sampled) and not len(self._shared):
            comm.inference_all_reduce(logits)
        self._progress.steps += 1
        return logits

    def close(self) -> None:
        """End the threads and free what the kernels allocated."""
        self._kernels.destroy(self._decoder)

    def _create(self, decoder: Llama, caches: list[LayerCache], sizes: Sizes, arena: Arena) -> int:
        addresses = (library.LayerAddresses * len(decoder.layers))()
        for i, (layer, cache) in enumerate(zip(decoder.layers, caches, strict=True)):
            weights = [self._pack(w, arena) for w in decoder.take_weights(layer)]
            norms = [self._hold(n.float()) for n in decoder.norms(layer)]
            places = [*weights, *norms, cache.keys, cache.values]
            addresses[i] = library.LayerAddresses(*(t.data_ptr() for t in places))
        tied = decoder.is_tied
        head = self._pack(decoder.take_head(), arena)
        cosines, sines = (self._hold(t) for t in decoder.rotary_tables(sizes.max_context))
        # A head that is the embedding is kept once: rows are taken out of its panels.
        embedding = self._hold(torch.empty(0) if tied else decoder.embedding.clone())
        norm = self._hold(decoder.final_norm.float().clone())
        places = [embedding, head, norm, cosines, sines, self._shared, self._partial]
        model = library.ModelAddresses(
            ctypes.cast(addresses, ctypes.c_void_p), *(t.data_ptr() for t in places)
        )
        self._keep.append(addresses)
        shape = decoder.shape(sizes)
        return self._kernels.create(
            ctypes.byref(shape), ctypes.byref(model), sizes.threads, self._all_reduce
        )

    def _pack(self, weights: Tensor, arena: Arena) -> Tensor:
        """Return [columns, depth] weights in the kernels' panels."""
        source = weights.contiguous()
        packed = self._hold(arena.take(source.shape, source.dtype))
        self._kernels.pack(source.data_ptr(), *source.shape, packed.data_ptr())
        return packed

    def _hold(self, tensor: Tensor) -> Tensor:
        """Keep a tensor alive, contiguous, as long as the kernels have its address."""
        tensor = tensor.detach().contiguous()
        self._keep.append(tensor)
        return tensor

    def _add_ranks(self, tokens: int) -> None:
        comm.inference_all_reduce(self._partial[:tokens])


def _release(module: nn.Module) -> None:
    """Free the parameters: even a small one may keep a whole mapped file in memory."""
    for parameter in module.parameters():
        parameter.data = parameter.new_empty(0)
