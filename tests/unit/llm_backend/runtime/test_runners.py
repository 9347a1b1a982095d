"""Both ways to run a step give what Hugging Face gives for each sequence alone."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from llm_backend.errors import EngineStartError, ModelInvalidError
from llm_backend.runtime import model, runner
from llm_backend.runtime.fast import library
from llm_backend.runtime.fast.library import UnavailableError
from llm_backend.runtime.fast.llama import Sizes
from llm_backend.runtime.fast.runner import FastRunner, prepare
from llm_backend.runtime.progress import Progress
from llm_backend.runtime.ranks import StepRunner
from tests.support.steps import BLOCK, NUM_BLOCKS, random_steps

CPU = torch.device("cpu")

Make = Callable[[Path, Path], StepRunner]


def load(directory: Path, dtype: torch.dtype) -> model.LoadedModel:
    return model.load(directory, dtype, 1, lambda *_: None)


def caches(loaded: model.LoadedModel, dtype: torch.dtype) -> list[runner.LayerCache]:
    return runner.allocate(model.probe(loaded, CPU), NUM_BLOCKS * BLOCK, dtype, CPU)


def plain(dtype: torch.dtype) -> Make:
    def make(directory: Path, _: Path) -> StepRunner:
        loaded = load(directory, dtype)
        return runner.Runner(loaded, caches(loaded, dtype), BLOCK, CPU, Progress(None))

    return make


def fast(dtype: torch.dtype, threads: int) -> Make:
    def make(directory: Path, cache_dir: Path) -> StepRunner:
        loaded = load(directory, dtype)
        sizes = Sizes(BLOCK, max_tokens=256, max_context=160, ranks=1, threads=threads)
        prepared = prepare(loaded, sizes, cache_dir)
        return FastRunner(prepared, loaded, caches(loaded, dtype), sizes, Progress(None))

    return make


@pytest.fixture
def reference(tiny_llama: Path) -> Callable[[list[int]], Tensor]:
    """What Hugging Face says after a sequence, in fp32."""
    whole = LlamaForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)

    def logits(tokens: list[int]) -> Tensor:
        with torch.inference_mode():
            result: Tensor = whole(torch.tensor([tokens])).logits[0, -1]
        return result

    return logits


@pytest.mark.parametrize(
    ("make", "tolerance"),
    [
        pytest.param(plain(torch.float32), 1e-4, id="plain-fp32"),
        pytest.param(plain(torch.bfloat16), 5e-2, id="plain-bf16"),
        pytest.param(fast(torch.float32, 1), 1e-4, id="fast-fp32-1-thread"),
        pytest.param(fast(torch.float32, 3), 1e-4, id="fast-fp32-3-threads"),
        pytest.param(fast(torch.bfloat16, 1), 3.5e-2, id="fast-bf16-1-thread"),
        pytest.param(fast(torch.bfloat16, 2), 3.5e-2, id="fast-bf16-2-threads"),
    ],
)
def test_a_ragged_step_equals_each_sequence_alone(
    tiny_llama: Path,
    kernel_cache: Path,
    reference: Callable[[list[int]], Tensor],
    make: Make,
    tolerance: float,
) -> None:
    running = make(tiny_llama, kernel_cache)
    compared = 0
    for seed in range(3):
        for plan, sampled in random_steps(seed):
            logits = running.run(plan)
            assert logits.shape == (len(sampled), 128)
            for row, tokens in zip(logits, sampled, strict=True):
                want = reference(tokens)
                error = (row.float() - want).norm() / want.norm()
                assert error < tolerance, f"{error:.1e} after {len(tokens)} tokens"
                compared += 1
    assert compared > 20


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 3.5e-2)])
def test_a_head_that_is_the_embedding_is_held_once(
    tiny_llama: Path, kernel_cache: Path, tmp_path: Path, dtype: torch.dtype, tolerance: float
) -> None:
    whole = LlamaForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    whole.config.tie_word_embeddings = True
    whole.lm_head.weight = whole.model.embed_tokens.weight
    whole.save_pretrained(tmp_path / "tied")
    loaded = load(tmp_path / "tied", dtype)
    sizes = Sizes(BLOCK, max_tokens=256, max_context=160, ranks=1, threads=2)
    prepared = prepare(loaded, sizes, kernel_cache)
    assert prepared.llama.is_tied
    running = FastRunner(prepared, loaded, caches(loaded, dtype), sizes, Progress(None))
    for plan, sampled in random_steps(0):
        for row, tokens in zip(running.run(plan), sampled, strict=True):
            with torch.inference_mode():
                want = whole(torch.tensor([tokens])).logits[0, -1]
            assert (row - want).norm() / want.norm() < tolerance
    running.close()


def test_rotary_frequencies_stay_those_of_fp32(tiny_llama: Path, kernel_cache: Path) -> None:
    whole = LlamaForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    positions = torch.arange(512)[None]
    loaded = load(tiny_llama, torch.bfloat16)
    sizes = Sizes(BLOCK, max_tokens=16, max_context=512, ranks=1, threads=1)

    wanted = whole.model.rotary_emb(torch.zeros(1), positions)
    plain_tables = loaded.module.model.rotary_emb(torch.zeros(1), positions)  # type: ignore[operator, union-attr]
    fast_tables = prepare(loaded, sizes, kernel_cache).llama.rotary_tables(512)

    for table, plain_table, fast_table in zip(wanted, plain_tables, fast_tables, strict=True):
        assert torch.equal(plain_table, table)
        assert torch.equal(fast_table, table[0, :, :16])


def test_the_kernels_take_the_weights_over(tiny_llama: Path, kernel_cache: Path) -> None:
    loaded = load(tiny_llama, torch.bfloat16)
    sizes = Sizes(BLOCK, max_tokens=16, max_context=32, ranks=1, threads=1)

    places = caches(loaded, torch.bfloat16)
    prepared = prepare(loaded, sizes, kernel_cache)

    running = FastRunner(prepared, loaded, places, sizes, Progress(None))

    assert sum(p.numel() for p in loaded.module.parameters()) == 0
    running.close()


def test_another_architecture_takes_the_plain_path(tmp_path: Path, kernel_cache: Path) -> None:
    config = Qwen2Config(
        vocab_size=64,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    Qwen2ForCausalLM(config).save_pretrained(tmp_path)
    loaded = load(tmp_path, torch.float32)
    sizes = Sizes(BLOCK, max_tokens=16, max_context=32, ranks=1, threads=1)

    with pytest.raises(UnavailableError, match="another architecture"):
        prepare(loaded, sizes, kernel_cache)

    assert all(p.numel() for p in loaded.module.parameters())


def test_blocks_that_are_no_whole_groups_take_the_plain_path(
    tiny_llama: Path, kernel_cache: Path
) -> None:
    loaded = load(tiny_llama, torch.float32)
    sizes = Sizes(8, max_tokens=16, max_context=32, ranks=1, threads=1)

    with pytest.raises(UnavailableError, match="block size that is no multiple of 16"):
        prepare(loaded, sizes, kernel_cache)


def test_attention_that_is_not_full_is_refused(tmp_path: Path) -> None:
    config = MistralConfig(
        vocab_size=64,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        sliding_window=32,
    )
    MistralForCausalLM(config).save_pretrained(tmp_path)
    loaded = load(tmp_path, torch.float32)

    with pytest.raises(EngineStartError, match="'sliding_window', which this engine does not"):
        model.probe(loaded, CPU)


def test_more_ranks_than_heads_are_refused(tiny_llama: Path) -> None:
    with pytest.raises(EngineStartError, match="LLM_TENSOR_PARALLEL to at most 2"):
        model.load(tiny_llama, torch.float32, 3, lambda *_: None)


def test_a_directory_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelInvalidError, match="cannot be loaded"):
        load(tmp_path, torch.float32)


def test_weights_that_are_cut_short_are_refused(tiny_llama: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_llama, tmp_path, dirs_exist_ok=True)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])

    with pytest.raises(ModelInvalidError, match="cannot be loaded"):
        load(tmp_path, torch.float32)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_hidden_layers": 3}, r"lack model\.layers\.2\..* and 8 others"),
        ({"hidden_size": 64}, "cannot be loaded"),
        ({"hidden_size": "many"}, "cannot be loaded"),
        ({"model_type": "nonsense", "architectures": []}, "cannot be loaded"),
        ({"model_type": "bert", "architectures": []}, "bert.*cannot|cannot be loaded|lack "),
    ],
)
def test_a_config_that_does_not_fit_is_refused(
    tiny_llama: Path, tmp_path: Path, wrong: dict[str, Any], message: str
) -> None:
    shutil.copytree(tiny_llama, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **wrong}))

    with pytest.raises(ModelInvalidError, match=message):
        load(tmp_path, torch.float32)


def test_end_of_sequence_tokens_come_from_the_model(tiny_llama: Path) -> None:
    assert load(tiny_llama, torch.float32).eos_token_ids == {2}


def test_a_cache_too_large_for_memory_is_refused() -> None:
    with pytest.raises(EngineStartError, match="lower LLM_KV_CACHE_MIB"):
        runner.allocate({0: (2, 32)}, 10**13, torch.float32, CPU)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the flag is x86's")
@pytest.mark.parametrize("lacks", ["-march=x86-64-v3", "-mno-amx-bf16"])
def test_a_cpu_that_lacks_bf16_instructions_computes_the_same(
    lacks: str,
    tiny_llama: Path,
    tmp_path: Path,
    reference: Callable[[list[int]], Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(library, "FLAGS", (*library.FLAGS, lacks, "-O1"))  # the last one counts

    test_a_ragged_step_equals_each_sequence_alone(
        tiny_llama, tmp_path, reference, fast(torch.bfloat16, 2), 3.5e-2
    )
