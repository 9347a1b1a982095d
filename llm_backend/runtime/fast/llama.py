"""A Hugging Face decoder seen as the kernels see it, from the modules that sharding left.

Llama's shape: names, sizes, no biases, RMSNorm, SiLU, rotary embedding. Any other model runs on
the plain path.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from deepspeed.module_inject.layers import LmHeadLinearAllreduce
from torch import Tensor, nn

from llm_backend.runtime.fast import library
from llm_backend.runtime.fast.library import UnavailableError

LANES = 16
_PAIR = 2 * LANES
_MAX_GROUP = 12  # query heads of a key-value head: the rows of one product
_ROPE_TYPES = ("default", "linear", "llama3")  # those whose table does not depend on the length
_DTYPES = (torch.float32, torch.bfloat16)


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the kernels must be ready for.

    Attributes:
        block_size: tokens of a KV cache block.
        max_tokens: of one step.
        max_context: of one sequence.
        ranks: among which the model is sharded.
        rank: this one among them.
        threads: of this rank.
    """

    block_size: int
    max_tokens: int
    max_context: int
    ranks: int
    threads: int
    rank: int = 0


class Llama:
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
            and self.intermediate % LANES == 0,
            "too many query heads in a group": self.heads // self.kv_heads <= _MAX_GROUP
            and self.heads % self.kv_heads == 0,
            f"a block size that is no multiple of {LANES}": sizes.block_size % LANES == 0,
            "weights in another format": self.embedding.dtype in _DTYPES,
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
        halves = [_take(p).view(-1, LANES, self.hidden) for p in (mlp.gate_proj, mlp.up_proj)]
        gate_up = torch.stack(halves, dim=1).view(-1, self.hidden)
        return [qkv, _take(attention.o_proj), gate_up, _take(mlp.down_proj)]

    @property
    def is_tied(self) -> bool:
        """Whether the output head is the whole embedding."""
        return self._head.weight is self.embedding

    def take_head(self) -> Tensor:
        """Return the output head [columns, head_depth]; one that is the embedding stays."""
        weight: Tensor = self._head.weight
        return weight.detach() if self.is_tied else _take(self._head)

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
            rank=sizes.rank,
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


def _take(linear: nn.Module) -> Tensor:
    """Return a module's weight and leave it an empty one, so that memory holds it once."""
    weight: Tensor = linear.weight.detach()  # type: ignore[operator]
    linear.weight = nn.Parameter(weight.new_empty(0), requires_grad=False)
    return weight
