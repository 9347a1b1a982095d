from __future__ import annotations

from pathlib import Path

import pytest
import torch

from llm_backend.engine.plan import StepPlan
from llm_backend.engine.scheduler import Chunk
from llm_backend.engine.sequence import Sequence
from llm_backend.errors import EngineStartError
from llm_backend.runtime import shard
from llm_backend.runtime.fast.runner import FastRunner
from llm_backend.runtime.ipc import SamplingParams
from llm_backend.runtime.progress import Progress
from llm_backend.runtime.ranks import LockStep, Rank
from llm_backend.runtime.runner import Runner
from llm_backend.settings import LlmSettings

ALONE = Rank(index=0, size=1, local_index=0, local_size=1)


def load(
    directory: Path, cache_dir: Path, progress: Progress | None = None, **more: object
) -> shard.Shard:
    settings = LlmSettings(cache_dir=cache_dir, kv_cache_mib=8, **more)  # type: ignore[arg-type]
    return shard.load(directory, settings, ALONE, progress or Progress(None))


def test_the_context_is_the_one_trained_for(tiny_llama: Path, kernel_cache: Path) -> None:
    assert load(tiny_llama, kernel_cache).max_model_len == 512


def test_the_cache_has_the_size_that_was_asked_for(tiny_llama: Path, kernel_cache: Path) -> None:
    loaded = load(tiny_llama, kernel_cache, dtype="float32")

    # Two layers of keys and values, two heads of 32 values of 4 bytes, blocks of 16 tokens.
    assert loaded.num_blocks == 8 * 2**20 // (2 * 2 * 2 * 32 * 4 * 16)
    assert loaded.kv_cache_bytes <= 8 * 2**20


def test_a_context_beyond_the_models_is_refused(tiny_llama: Path, kernel_cache: Path) -> None:
    with pytest.raises(
        EngineStartError, match="beyond the 512 tokens that the model can be served with"
    ):
        load(tiny_llama, kernel_cache, max_model_len=513)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named(tiny_llama: Path, kernel_cache: Path) -> None:
    with pytest.raises(EngineStartError, match="finds 0 GPUs on its host"):
        load(tiny_llama, kernel_cache, device="cuda")


def test_kernels_run_where_they_can_and_plain_torch_where_not(
    tiny_llama: Path, kernel_cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert isinstance(load(tiny_llama, kernel_cache).runner, FastRunner)
    assert isinstance(load(tiny_llama, kernel_cache, kernels="plain").runner, Runner)
    assert isinstance(load(tiny_llama, kernel_cache, block_size=8).runner, Runner)
    assert "Plain torch instead of the CPU kernels: the model has a block size" in (
        capfd.readouterr().err
    )


def test_one_rank_runs_plans_and_counts_its_steps(tiny_llama: Path, kernel_cache: Path) -> None:
    progress = Progress(None)
    step = LockStep(ALONE, load(tiny_llama, kernel_cache, progress).runner)
    sequence = Sequence("r", [1, 2, 3], SamplingParams(), max_length=4, blocks=[0])

    logits = step.run(StepPlan.of([Chunk(sequence, 3)]))
    step.stop()

    assert logits.shape == (1, 128)
    assert progress.steps == 1
