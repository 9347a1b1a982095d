"""What a rank does once torch and DeepSpeed are there: load its shard, then serve or follow."""

from __future__ import annotations

import hashlib
import os
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
import zmq

from llm_backend.engine.engine import Engine
from llm_backend.engine.kv_cache import BlockPool
from llm_backend.engine.sampler import TokenSampler
from llm_backend.engine.scheduler import Limits, Scheduler
from llm_backend.errors import EngineStartError
from llm_backend.models.store import weight_files
from llm_backend.runtime import extensions, ipc, model, ranks, runner
from llm_backend.runtime.attention import LayerCache
from llm_backend.runtime.fast.library import UnavailableError
from llm_backend.runtime.fast.runner import FastRunner, Sizes
from llm_backend.runtime.progress import Progress
from llm_backend.runtime.ranks import StepRunner
from llm_backend.runtime.runner import Runner
from llm_backend.runtime.serve import serve
from llm_backend.settings import LlmSettings

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_MIB = 2**20


def run(
    model_dir: Path, settings: LlmSettings, progress: Progress, socket: zmq.Socket[bytes] | None
) -> None:
    """Be one rank until the front end shuts the engine down.

    Args:
        model_dir: safetensors directory, readable by every rank.
        settings: the same on every rank.
        progress: told of phases and steps.
        socket: to the front end, on rank 0.

    Raises:
        StartupError: this model cannot run with these settings.
    """
    extensions.use_directory(settings.cache_dir)
    rank = ranks.introduce()
    _use_threads(settings, rank)
    progress.report("connecting the ranks", 30)
    ranks.connect(rank, "nccl" if settings.device == "cuda" else "gloo")
    with ThreadPoolExecutor(1) as background:
        digest = background.submit(_digest, model_dir) if rank.index == 0 else None
        shard = _load(model_dir, settings, rank, progress)
    step = ranks.LockStep(rank, shard.runner)
    if socket is None:
        step.follow()
    else:
        _lead(step, shard, settings, socket, digest)
    _part(rank)


@dataclass(frozen=True, slots=True)
class _Shard:
    model: model.LoadedModel
    runner: StepRunner
    max_model_len: int
    num_blocks: int
    kv_cache_bytes: int
    weights_bytes: int


def _load(model_dir: Path, settings: LlmSettings, rank: ranks.Rank, progress: Progress) -> _Shard:
    """Load this rank's model and allocate its part of the KV cache."""
    device, dtype = _device(settings, rank), _DTYPES[settings.dtype]
    loaded = model.load(model_dir, dtype, rank.size, progress.report)
    shapes = model.probe(loaded, device)
    progress.report("allocating the KV cache", 90)
    block_bytes = runner.block_bytes(shapes, settings.block_size, dtype)
    all_block_bytes = _sum(block_bytes, rank)
    num_blocks = settings.kv_cache_mib * _MIB // all_block_bytes
    caches = runner.allocate(shapes, num_blocks * settings.block_size, dtype, device)
    max_model_len = _context_length(settings, loaded, num_blocks * settings.block_size)
    sizes = Sizes(
        block_size=settings.block_size,
        max_tokens=settings.step_tokens,
        max_context=max_model_len,
        ranks=rank.size,
        threads=torch.get_num_threads(),
    )
    return _Shard(
        model=loaded,
        runner=_runner(settings, loaded, caches, sizes, device, progress),
        max_model_len=max_model_len,
        num_blocks=num_blocks,
        kv_cache_bytes=num_blocks * all_block_bytes,
        weights_bytes=_sum(loaded.weights_bytes, rank),
    )


def _runner(
    settings: LlmSettings,
    loaded: model.LoadedModel,
    caches: list[LayerCache],
    sizes: Sizes,
    device: torch.device,
    progress: Progress,
) -> StepRunner:
    """Return what runs the steps: the C++ kernels where they can, else plain torch."""
    if settings.kernels == "auto" and device.type == "cpu":
        progress.report("preparing the CPU kernels", 95)
        try:
            fast = FastRunner(loaded, caches, sizes, settings.cache_dir, progress)
        except UnavailableError as reason:
            print(f"Plain torch instead of the CPU kernels: {reason}.", file=sys.stderr)  # noqa: T201
        else:
            # What torch still does is small; its idle threads would spin beside the kernels'.
            torch.set_num_threads(1)
            return fast
    return Runner(loaded, caches, settings.block_size, device, progress)


def _lead(
    step: ranks.LockStep,
    shard: _Shard,
    settings: LlmSettings,
    socket: zmq.Socket[bytes],
    digest: Future[str] | None,
) -> None:
    """Be rank 0: build the engine, say that it is ready, and serve."""
    pool = BlockPool(shard.num_blocks, settings.block_size, settings.prefix_cache)
    limits = Limits(settings.max_num_seqs, settings.step_tokens)
    engine = Engine(
        Scheduler(pool, limits),
        step,
        TokenSampler(shard.model.eos_token_ids),
        eos_token_ids=shard.model.eos_token_ids,
        max_model_len=shard.max_model_len,
        vocab_size=shard.model.vocab_size,
    )
    ready = ipc.Ready(
        max_model_len=shard.max_model_len,
        num_blocks=shard.num_blocks,
        block_size=settings.block_size,
        model_hash=digest.result() if digest else "",
        weights_bytes=shard.weights_bytes,
        kv_cache_bytes=shard.kv_cache_bytes,
        vocab_size=shard.model.vocab_size,
    )
    socket.send(ipc.encode(ready))
    serve(socket, engine)
    step.stop()


def _device(settings: LlmSettings, rank: ranks.Rank) -> torch.device:
    if settings.device == "cpu":
        return torch.device("cpu")
    if torch.cuda.device_count() <= rank.local_index:
        raise EngineStartError(
            f"Rank {rank.index} finds {torch.cuda.device_count()} GPUs on its host: start fewer "
            f"ranks there, or set LLM_DEVICE=cpu."
        )
    torch.cuda.set_device(rank.local_index)
    return torch.device("cuda", rank.local_index)


def _use_threads(settings: LlmSettings, rank: ranks.Rank) -> None:
    """Share the host's cores among its ranks: more threads than cores slows all of them."""
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(settings.threads_per_rank or max(1, cores // rank.local_size))


def _context_length(settings: LlmSettings, loaded: model.LoadedModel, num_slots: int) -> int:
    """Return the context length served: what was asked for, or the most that fits."""
    if settings.max_model_len > loaded.trained_length:
        raise EngineStartError(
            f"LLM_MAX_MODEL_LEN={settings.max_model_len} is beyond the {loaded.trained_length} "
            f"tokens that the model was trained for; lower it."
        )
    if settings.max_model_len > num_slots:
        raise EngineStartError(
            f"LLM_KV_CACHE_MIB={settings.kv_cache_mib} holds {num_slots} tokens, fewer than "
            f"LLM_MAX_MODEL_LEN={settings.max_model_len}: raise the one or lower the other."
        )
    return settings.max_model_len or min(loaded.trained_length, num_slots)


def _sum(value: int, rank: ranks.Rank) -> int:
    """Return the sum over all ranks."""
    if rank.size == 1:
        return value
    total = torch.tensor([value], dtype=torch.int64)
    dist.all_reduce(total)
    return int(total)


def _digest(model_dir: Path) -> str:
    """Return the SHA-256 of the weight files, in order."""
    digest = hashlib.sha256()
    for path in weight_files(model_dir):
        with path.open("rb") as file:
            while piece := file.read(_MIB):
                digest.update(piece)
    return digest.hexdigest()


def _part(rank: ranks.Rank) -> None:
    if rank.size > 1:
        dist.destroy_process_group()
