"""Runs step plans on one rank through the C++ kernels, for models of Llama's shape.

What the shape is, is seen from the modules that DeepSpeed's sharding left: names, sizes, no
biases, RMSNorm, SiLU, rotary embedding. Any other model runs on the plain path.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from deepspeed import comm
from deepspeed.module_inject.layers import LmHeadLinearAllreduce
from torch import Tensor, nn

from llm_backend.engine.plan import StepPlan
from llm_backend.runtime.attention import LayerCache
from llm_backend.runtime.fast import library
from llm_backend.runtime.fast.library import UnavailableError
from llm_backend.runtime.model import LoadedModel
from llm_backend.runtime.progress import Progress

_LANES = 16
_PAIR = 2 * _LANES
_MAX_GROUP = 12  # query heads of a key-value head: the rows of one product
_ROPE_TYPES = ("default", "linear", "llama3")  # those whose table does not depend on the length
_FORMATS = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the kernels must be ready for.

    Attributes:
        block_size: tokens of a KV cache block.
        max_tokens: of one step.
        max_context: of one sequence.
        ranks: among which the model is sharded.
        threads: of this rank.
    """

    block_size: int
    max_tokens: int
    max_context: int
    ranks: int
    threads: int


class FastRunner:
    """One rank's packed weights and KV cache. Takes the model over: its weights are freed.

    Args:
        model: this rank's shard.
        caches: of each layer; the kernels use the memory in a layout of their own.
        sizes: limits.
        cache_dir: where the kernels are compiled.
        progress: counts the steps.

    Raises:
        UnavailableError: this model or machine has to take the plain path. Nothing was changed.
    """

    def __init__(
        self,
        model: LoadedModel,
        caches: list[LayerCache],
        sizes: Sizes,
        cache_dir: Path,
        progress: Progress,
    ) -> None:
        decoder = _Llama(model.module, sizes)
        self._dtype = decoder.embedding.dtype
        self._kernels = library.load(cache_dir, _FORMATS[self._dtype])
        self._progress = progress
        self._vocab_size = model.vocab_size
        self._ranks = sizes.ranks
        self._partial = torch.zeros(sizes.max_tokens, decoder.hidden)
        self._all_reduce = library.AllReduce(self._add_ranks)
        self._keep = [caches, self._partial]
        self._decoder = self._create(decoder, caches, sizes)
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
        if self._ranks > 1 and len(sampled):
            comm.inference_all_reduce(logits)
        self._progress.steps += 1
        return logits

    def close(self) -> None:
        """End the threads and free what the kernels allocated."""
        self._kernels.destroy(self._decoder)

    def _create(self, decoder: _Llama, caches: list[LayerCache], sizes: Sizes) -> int:
        addresses = (library.LayerAddresses * len(decoder.layers))()
        for i, (layer, cache) in enumerate(zip(decoder.layers, caches, strict=True)):
            weights = [self._pack(w) for w in decoder.take_weights(layer)]
            norms = [self._hold(n.float()) for n in decoder.norms(layer)]
            places = [*weights, *norms, cache.keys, cache.values]
            addresses[i] = library.LayerAddresses(*(t.data_ptr() for t in places))
        head = self._pack(decoder.take_head())
        cosines, sines = (self._hold(t) for t in decoder.rotary_tables(sizes.max_context))
        embedding = self._hold(decoder.embedding.clone())
        norm = self._hold(decoder.final_norm.float().clone())
        places = [embedding, head, norm, cosines, sines, self._partial]
        model = library.ModelAddresses(
            ctypes.cast(addresses, ctypes.c_void_p), *(t.data_ptr() for t in places)
        )
        self._keep.append(addresses)
        shape = decoder.shape(sizes)
        return self._kernels.create(
            ctypes.byref(shape), ctypes.byref(model), sizes.threads, self._all_reduce
        )

    def _pack(self, weights: Tensor) -> Tensor:
        """Return [columns, depth] weights in the kernels' panels."""
        source = weights.contiguous()
        packed = self._hold(torch.empty_like(source))
        self._kernels.pack(source.data_ptr(), *source.shape, packed.data_ptr())
        return packed

    def _hold(self, tensor: Tensor) -> Tensor:
        """Keep a tensor alive, contiguous, as long as the kernels have its address."""
        tensor = tensor.detach().contiguous()
        self._keep.append(tensor)
        return tensor

    def _add_ranks(self, tokens: int) -> None:
        comm.inference_all_reduce(self._partial[:tokens])


class _Llama:
    """A Hugging Face decoder seen as the kernels see it.

    Raises:
        UnavailableError: it has another shape.
    """

    def __init__(self, module: Any, sizes: Sizes) -> None:
        config = module.config
        self._config = config
        try:
            self._read(module)
        except AttributeError as error:
            raise UnavailableError(f"{type(module).__name__} has another structure") from error
        self._check(sizes)

    def _read(self, module: Any) -> None:
        base = module.model
        self.layers: list[Any] = list(base.layers)
        self.embedding: Tensor = base.embed_tokens.weight
        self.final_norm: Tensor = base.norm.weight
        self._head = module.lm_head
        self.columns, self.head_depth = self._head.weight.shape
        self.head_begin = _first_column(self._head)
        self._rotary = base.rotary_emb
        first = self.layers[0]
        self.hidden = self.embedding.shape[1]
        self.head_size: int = first.self_attn.head_dim
        self.heads: int = first.self_attn.q_proj.weight.shape[0] // self.head_size
        self.kv_heads: int = first.self_attn.k_proj.weight.shape[0] // self.head_size
        self.intermediate: int = first.mlp.gate_proj.weight.shape[0]

    def _check(self, sizes: Sizes) -> None:
        wide = (self.hidden, self.head_size, self.columns)
        conditions = {
            "another architecture": self._config.model_type == "llama",
            "another activation": self._config.hidden_act == "silu",
            "biases": not any(
                name.endswith("bias")
                for layer in self.layers
                for name, _ in layer.named_parameters()
            ),
            "another rotary embedding": self._rotary.rope_type in _ROPE_TYPES,
            f"sizes that are no multiple of {_PAIR}": not any(size % _PAIR for size in wide)
            and self.intermediate % _LANES == 0,
            "too many query heads in a group": self.heads // self.kv_heads <= _MAX_GROUP
            and self.heads % self.kv_heads == 0,
            f"a block size that is no multiple of {_LANES}": sizes.block_size % _LANES == 0,
            "weights in another format": self.embedding.dtype in _FORMATS,
        }
        for what, holds in conditions.items():
            if not holds:
                raise UnavailableError(f"the model has {what}")

    def take_weights(self, layer: Any) -> list[Tensor]:
        """Return a layer's matrices, each [columns, depth], and free the module's own.

        Queries, keys and values are one matrix; of gate and up, panels of 16 columns alternate.
        """
        attention, mlp = layer.self_attn, layer.mlp
        qkv = torch.cat([_take(p) for p in (attention.q_proj, attention.k_proj, attention.v_proj)])
        halves = [_take(p).view(-1, _LANES, self.hidden) for p in (mlp.gate_proj, mlp.up_proj)]
        gate_up = torch.stack(halves, dim=1).view(-1, self.hidden)
        return [qkv, _take(attention.o_proj), gate_up, _take(mlp.down_proj)]

    def take_head(self) -> Tensor:
        """Return the output head [columns, head_depth]; one that is the embedding stays."""
        weight: Tensor = self._head.weight
        return weight.detach() if weight is self.embedding else _take(self._head)

    @staticmethod
    def norms(layer: Any) -> list[Tensor]:
        """Return copies of the weights of a layer's two norms."""
        norms = (layer.input_layernorm, layer.post_attention_layernorm)
        return [norm.weight.detach().clone() for norm in norms]

    def rotary_tables(self, length: int) -> tuple[Tensor, Tensor]:
        """Return cosines and sines [length, head size / 2], as the model itself computes them."""
        positions = torch.arange(length)[None]
        cosines, sines = self._rotary(torch.zeros(1), positions)
        half = self.head_size // 2
        return cosines[0, :, :half], sines[0, :, :half]

    def shape(self, sizes: Sizes) -> library.Shape:
        return library.Shape(
            layers=len(self.layers),
            hidden=self.hidden,
            heads=self.heads,
            kv_heads=self.kv_heads,
            head_size=self.head_size,
            intermediate=self.intermediate,
            columns=self.columns,
            block_size=sizes.block_size,
            max_tokens=sizes.max_tokens,
            max_context=sizes.max_context,
            ranks=sizes.ranks,
            head_begin=self.head_begin,
            head_depth=self.head_depth,
            epsilon=self._config.rms_norm_eps,
            scaling=float(self.layers[0].self_attn.scaling),
        )


def _first_column(head: Any) -> int:
    """Return where this rank's part of the hidden state begins: DeepSpeed cuts the head there."""
    if not isinstance(head, LmHeadLinearAllreduce):
        return 0
    return int(sum(head._partition_sizes[: head.tp_index]))


def _release(module: nn.Module) -> None:
    """Free the parameters: even a small one may keep a whole mapped file in memory."""
    for parameter in module.parameters():
        parameter.data = parameter.new_empty(0)


def _take(linear: nn.Module) -> Tensor:
    """Return a module's weight and leave it an empty one, so that memory holds it once."""
    weight: Tensor = linear.weight.detach()  # type: ignore[operator]
    linear.weight = nn.Parameter(weight.new_empty(0), requires_grad=False)
    return weight
