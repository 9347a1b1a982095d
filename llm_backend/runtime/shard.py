"""Loads one rank's part of the model, and the KV cache that goes with it."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from llm_backend.errors import EngineStartError
from llm_backend.runtime import model, runner, shared_memory
from llm_backend.runtime.attention import LayerCache
from llm_backend.runtime.fast.library import UnavailableError
from llm_backend.runtime.fast.llama import Sizes
from llm_backend.runtime.fast.runner import FastRunner, prepare
from llm_backend.runtime.gpu import norms
from llm_backend.runtime.gpu.inputs import Capacity
from llm_backend.runtime.progress import Progress
from llm_backend.runtime.ranks import Rank, StepRunner, reduce_in_shared_memory, sum_over_ranks
from llm_backend.runtime.runner import Runner
from llm_backend.settings import LlmSettings

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Shard:
    """What a rank runs steps with.

    Attributes:
        runner: the model and its KV cache.
        max_model_len: context length in tokens, prompt and answer together.
        num_blocks: KV cache blocks, the same on every rank.
        kv_cache_bytes: of all ranks together.
        weights_bytes: of all ranks together.
    """

    model: model.LoadedModel
    runner: StepRunner
    max_model_len: int
    num_blocks: int
    kv_cache_bytes: int
    weights_bytes: int


def load(model_dir: Path, settings: LlmSettings, rank: Rank, progress: Progress) -> Shard:
    """Load this rank's model and allocate its part of the KV cache.

    Args:
        model_dir: safetensors directory, readable by every rank.
        settings: the same on every rank.
        rank: this process, connected to the others.
        progress: told of phases; its steps are counted by the runner.

    Raises:
        StartupError: this model cannot run with these settings.
    """
    device, dtype = _device(settings, rank), _DTYPES[settings.dtype]
    loaded = model.load(model_dir, dtype, rank.size, progress.report, device)
    shapes = model.probe(loaded, device)
    progress.report("allocating the KV cache", 90)
    block_bytes = runner.block_bytes(shapes, settings.block_size, dtype)
    all_block_bytes = sum_over_ranks(block_bytes, rank)
    num_blocks = settings.kv_cache_mib * _MIB // all_block_bytes
    caches = runner.allocate(shapes, num_blocks * settings.block_size, dtype, device)
    max_model_len = _context_length(settings, loaded, num_blocks * settings.block_size)
    return Shard(
        model=loaded,
        runner=_runner(settings, loaded, caches, max_model_len, rank, progress),
        max_model_len=max_model_len,
        num_blocks=num_blocks,
        kv_cache_bytes=num_blocks * all_block_bytes,
        weights_bytes=sum_over_ranks(loaded.weights_bytes, rank),
    )


def _runner(
    settings: LlmSettings,
    loaded: model.LoadedModel,
    caches: list[LayerCache],
    max_model_len: int,
    rank: Rank,
    progress: Progress,
) -> StepRunner:
    """Return what runs the steps: kernels where they fit the model and the machine."""
    device = _device(settings, rank)
    if settings.kernels == "auto":
        kernels = _cpu_kernels if device.type == "cpu" else _gpu_kernels
        found = kernels(settings, loaded, caches, max_model_len, rank, progress)
        if found is not None:
            return found
    if device.type == "cpu":
        reduce_in_shared_memory(rank)
    return Runner(loaded, caches, settings.block_size, device, progress)


def _cpu_kernels(
    settings: LlmSettings,
    loaded: model.LoadedModel,
    caches: list[LayerCache],
    max_model_len: int,
    rank: Rank,
    progress: Progress,
) -> StepRunner | None:
    """Return what runs steps in C++, or None where not every rank can."""
    progress.report("preparing the CPU kernels", 95)
    sizes = Sizes(
        block_size=settings.block_size,
        max_tokens=settings.step_tokens,
        max_context=max_model_len,
        ranks=rank.size,
        threads=torch.get_num_threads(),
        rank=rank.index,
    )
    prepared = None
    try:
        prepared = prepare(loaded, sizes, settings.cache_dir)
    except UnavailableError as reason:
        print(f"Plain torch instead of the CPU kernels: {reason}.", file=sys.stderr)  # noqa: T201
    everywhere = sum_over_ranks(int(prepared is not None), rank) == rank.size
    if prepared is None or not everywhere:
        return None
    # What torch still does is small; its idle threads would spin beside the kernels'.
    torch.set_num_threads(1)
    shared = shared_memory.allocate(rank, prepared.shared_bytes(sizes))
    if shared is None:
        reduce_in_shared_memory(rank)
    fast = FastRunner(prepared, loaded, caches, sizes, progress, shared)
    _give_back()
    return fast


def _gpu_kernels(
    settings: LlmSettings,
    loaded: model.LoadedModel,
    caches: list[LayerCache],
    max_model_len: int,
    rank: Rank,
    progress: Progress,
) -> StepRunner | None:
    """Return what runs steps through the Triton kernel, or None without Triton."""
    try:
        from llm_backend.runtime.gpu.runner import CaptureError, GpuRunner  # needs Triton
    except ImportError as error:
        print(f"Plain torch instead of the GPU kernels: {error}.", file=sys.stderr)  # noqa: T201
        return None
    capacity = Capacity(
        tokens=settings.step_tokens,
        sequences=settings.max_num_seqs,
        context=max_model_len,
        block_size=settings.block_size,
    )
    norms.fuse(loaded.module)
    gpu = GpuRunner(loaded, caches, capacity, _device(settings, rank), progress)
    if rank.size == 1:  # NCCL within a graph has not been seen working
        try:
            gpu.capture()
        except CaptureError as error:
            print(f"No CUDA graphs for this model: {error}.", file=sys.stderr)  # noqa: T201
    return gpu


def _give_back() -> None:
    """Return freed memory to the system: of the weights that were repacked, glibc keeps most."""
    if sys.platform == "linux":
        with suppress(AttributeError):  # another libc
            ctypes.CDLL(None).malloc_trim(0)


def _device(settings: LlmSettings, rank: Rank) -> torch.device:
    if settings.device == "cpu":
        return torch.device("cpu")
    if torch.cuda.device_count() <= rank.local_index:
        raise EngineStartError(
            f"Rank {rank.index} finds {torch.cuda.device_count()} GPUs on its host: start fewer "
            f"ranks there, or set LLM_DEVICE=cpu."
        )
    torch.cuda.set_device(rank.local_index)
    return torch.device("cuda", rank.local_index)


def use_threads(settings: LlmSettings, rank: Rank) -> None:
    """Share the host's cores among its ranks: more threads than cores slows all of them."""
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(settings.threads_per_rank or max(1, cores // rank.local_size))


def _context_length(settings: LlmSettings, loaded: model.LoadedModel, num_slots: int) -> int:
    """Return the context length served: what was asked for, or the most that fits."""
    if settings.max_model_len > loaded.trained_length:
        raise EngineStartError(
            f"LLM_MAX_MODEL_LEN={settings.max_model_len} is beyond the {loaded.trained_length} "
            f"tokens that the model can be served with; lower it."
        )
    if settings.max_model_len > num_slots:
        raise EngineStartError(
            f"LLM_KV_CACHE_MIB={settings.kv_cache_mib} holds {num_slots} tokens, fewer than "
            f"LLM_MAX_MODEL_LEN={settings.max_model_len}: raise the one or lower the other."
        )
    if num_slots == 0:
        raise EngineStartError(
            f"LLM_KV_CACHE_MIB={settings.kv_cache_mib} does not hold one block of "
            f"{settings.block_size} tokens of this model: raise it."
        )
    return settings.max_model_len or min(loaded.trained_length, num_slots)
