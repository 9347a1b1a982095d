"""Steps through the Triton kernels give what Hugging Face gives for each sequence alone.

On a GPU if there is one; else Triton's interpreter runs the kernels, wrongly in bf16 (seen with
3.9), and without Triton, which torch for GPUs brings, nothing does.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from llm_backend.runtime import model, runner
from llm_backend.runtime.gpu import norms
from llm_backend.runtime.gpu.inputs import Capacity
from llm_backend.runtime.progress import Progress
from tests.support.steps import BLOCK, NUM_BLOCKS, VOCABULARY, random_steps

pytest.importorskip("triton")
from llm_backend.runtime.gpu.runner import CaptureError, GpuRunner

ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
CAPACITY = Capacity(tokens=720, sequences=6, context=144, block_size=BLOCK)
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 5e-2}
needs_gpu = pytest.mark.skipif(not ON_GPU, reason="needs a GPU")


def llama(directory: Path, heads: int, kv_heads: int, head_size: int) -> LlamaForCausalLM:
    """Save a small random model and return it."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=96,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_size,
    )
    torch.manual_seed(0)
    made = LlamaForCausalLM(config).eval()
    made.save_pretrained(directory)
    return made


def gpu_runner(directory: Path, dtype: torch.dtype) -> GpuRunner:
    """Return what is under test."""
    loaded = model.load(directory, dtype, 1, lambda *_: None, DEVICE)
    shapes = model.probe(loaded, DEVICE)
    caches = runner.allocate(shapes, NUM_BLOCKS * BLOCK, dtype, DEVICE)
    norms.fuse(loaded.module)
    return GpuRunner(loaded, caches, CAPACITY, DEVICE, Progress(None))


@pytest.mark.parametrize(("heads", "kv_heads", "head_size"), [(4, 2, 32), (6, 2, 24), (3, 3, 16)])
@pytest.mark.parametrize("graphs", [False, pytest.param(True, marks=needs_gpu)])
@pytest.mark.parametrize(
    "dtype", [torch.float32, pytest.param(torch.bfloat16, marks=needs_gpu)], ids=str
)
def test_a_step_equals_each_sequence_alone(
    tmp_path: Path, dtype: torch.dtype, graphs: bool, heads: int, kv_heads: int, head_size: int
) -> None:
    whole = llama(tmp_path, heads, kv_heads, head_size)
    running = gpu_runner(tmp_path, dtype)
    if graphs:
        running.capture()
    compared = 0
    for seed in range(3 if ON_GPU else 1):
        for plan, sampled in random_steps(seed):
            logits = running.run(plan).cpu()
            for row, tokens in zip(logits, sampled, strict=True):
                with torch.inference_mode():
                    want = whole(torch.tensor([tokens])).logits[0, -1]
                error = (row - want).norm() / want.norm()
                assert error < TOLERANCES[dtype], f"{error:.1e} after {len(tokens)} tokens"
                compared += 1
    assert compared > 15


@needs_gpu
def test_a_model_that_waits_for_the_gpu_runs_without_graphs(tmp_path: Path) -> None:
    llama(tmp_path, 4, 2, 32)
    running = gpu_runner(tmp_path, torch.float32)
    plan, _ = next(random_steps(0))
    before = running.run(plan).clone()

    def wait(_: object, __: object, output: torch.Tensor) -> None:
        output.sum().item()

    hook = running._model.module.get_submodule("model.layers.0.mlp").register_forward_hook(wait)
    with pytest.raises(CaptureError):
        running.capture()
    assert torch.allclose(running.run(plan), before)

    hook.remove()
    running.capture()
    assert torch.allclose(running.run(plan), before, atol=1e-5)
