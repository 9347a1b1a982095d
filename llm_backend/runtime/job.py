"""What a rank does once torch and DeepSpeed are there: load its shard, then serve or follow."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch.distributed as dist
import zmq

from llm_backend.engine.engine import Engine, Model
from llm_backend.engine.guide import GuideCompiler
from llm_backend.engine.kv_cache import BlockPool
from llm_backend.engine.sampler import Floats, TokenSampler
from llm_backend.engine.scheduler import Limits, Scheduler
from llm_backend.models.store import weight_files
from llm_backend.runtime import extensions, ipc, ranks, shard
from llm_backend.runtime.progress import Progress
from llm_backend.runtime.serve import serve
from llm_backend.settings import LlmSettings

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
    rank = join(settings, progress)
    with ThreadPoolExecutor(1) as background:
        digest = background.submit(_digest, model_dir) if socket is not None else None
        loaded = shard.load(model_dir, settings, rank, progress)
    step = ranks.LockStep(rank, loaded.runner)
    if socket is None or digest is None:
        step.follow()
    else:
        socket.send(ipc.encode(_ready(loaded, settings, digest.result())))
        serve(socket, build_engine(step, loaded, settings, model_dir / "tokenizer.json"))
        step.stop()
    if rank.size > 1:
        dist.destroy_process_group()


def join(settings: LlmSettings, progress: Progress) -> ranks.Rank:
    """Start MPI and connect this process to the other ranks."""
    extensions.use_directory(settings.cache_dir)
    rank = ranks.introduce(settings.advertise_address)
    shard.use_threads(settings, rank)
    progress.report("connecting the ranks", 30)
    ranks.connect(rank, ranks.NCCL if settings.device == "cuda" else ranks.GLOO)
    return rank


def build_engine(
    step: Model[Floats], loaded: shard.Shard, settings: LlmSettings, tokenizer: Path | None = None
) -> Engine[Floats]:
    """Return rank 0's engine; `step` runs its plans on all ranks.

    Without a `tokenizer`, the model's `tokenizer.json`, it cannot follow grammars.
    """
    model = loaded.model
    eos, vocab_size = model.eos_token_ids, model.vocab_size
    pool = BlockPool(loaded.num_blocks, settings.block_size, settings.prefix_cache)
    limits = Limits(settings.max_num_seqs, settings.step_tokens)
    return Engine(
        Scheduler(pool, limits),
        step,
        TokenSampler(eos),
        eos_token_ids=eos,
        max_model_len=loaded.max_model_len,
        vocab_size=vocab_size,
        guides=GuideCompiler(tokenizer, vocab_size, eos) if tokenizer is not None else None,
    )


def _ready(loaded: shard.Shard, settings: LlmSettings, digest: str) -> ipc.Ready:
    return ipc.Ready(
        max_model_len=loaded.max_model_len,
        num_blocks=loaded.num_blocks,
        block_size=settings.block_size,
        model_hash=digest,
        weights_bytes=loaded.weights_bytes,
        kv_cache_bytes=loaded.kv_cache_bytes,
        vocab_size=loaded.model.vocab_size,
    )


def _digest(model_dir: Path) -> str:
    """Return the SHA-256 of the weight files, in order."""
    digest = hashlib.sha256()
    for path in weight_files(model_dir):
        with path.open("rb") as file:
            while piece := file.read(_MIB):
                digest.update(piece)
    return digest.hexdigest()
