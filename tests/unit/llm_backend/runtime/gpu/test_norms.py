"""Norms are replaced by what computes the same, and others are left alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from llm_backend.runtime.gpu import norms

SIZE = 64


class CenteredRMSNorm(LlamaRMSNorm):
    """Another norm under the same name."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return super().forward(hidden_states - hidden_states.mean(-1, keepdim=True))


def with_weights(norm: nn.Module) -> nn.Module:
    nn.init.normal_(norm.weight, 1.0, 0.2)  # type: ignore[arg-type]
    return norm


@pytest.mark.parametrize("make", [LlamaRMSNorm, Qwen3RMSNorm])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)], ids=str
)
def test_a_norm_that_is_replaced_computes_the_same(
    make: Callable[[int, float], nn.Module], dtype: torch.dtype, tolerance: float
) -> None:
    torch.manual_seed(0)
    norm = with_weights(make(SIZE, 1e-5)).to(dtype)
    inputs = torch.randn(3, 5, SIZE).to(dtype)
    want = norm(inputs).float()

    assert norms.fuse(nn.ModuleList([norm])) == 1

    got = norm(inputs)
    assert got.dtype == dtype
    assert (got.float() - want).norm() < tolerance * want.norm()


@pytest.mark.parametrize("make", [GemmaRMSNorm, CenteredRMSNorm, nn.LayerNorm])
def test_other_norms_are_left_alone(make: Callable[[int], nn.Module]) -> None:
    torch.manual_seed(0)
    norm = with_weights(make(SIZE))
    inputs = torch.randn(3, SIZE)
    want = norm(inputs)

    assert norms.fuse(nn.Sequential(norm)) == 0
    assert torch.equal(norm(inputs), want)


def test_a_norm_with_another_epsilon_is_left_alone() -> None:
    class OtherRMSNorm(LlamaRMSNorm):
        def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
            scale = hidden_states.pow(2).mean(-1, keepdim=True).sqrt() + self.variance_epsilon
            return self.weight * hidden_states / scale

    torch.manual_seed(0)
    assert norms.fuse(nn.Sequential(with_weights(OtherRMSNorm(SIZE)))) == 0
