"""The servers that the LLM benchmark compares, and how each is started on the same weights.

Peers are installed by hand, each in an environment of its own (docs/benchmarks.md says how); a
peer whose executable is not given is left out of the run, and the report says so.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

THREADS = str(os.cpu_count() or 1)
MAX_CLIENTS = 32
REQUESTS = {1: 6, 8: 24, 32: 64}
"""Requests sent at each number of clients; servers that would take minutes get fewer."""
GPU_REQUESTS = {1: 8, 8: 64, 32: 256, 128: 1024}
"""The same on a GPU."""
GPU_SETTINGS = {"LLM_DEVICE": "cuda", "LLM_KV_CACHE_MIB": "16384", "LLM_MAX_NUM_SEQS": "128"}


@dataclass(frozen=True, slots=True)
class Peer:
    """One server: how it is started, when it is ready, what its requests carry besides.

    Attributes:
        ready_path: answers 200 once the server can generate.
        model: the id that requests name; None for the first of /v1/models.
        extra: request fields that make it generate past the end of sequence.
        requests: how many are sent at each number of clients.
    """

    name: str
    command: Sequence[str]
    ready_path: str
    model: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=lambda: {"ignore_eos": True})
    requests: Mapping[int, int] = field(default_factory=lambda: REQUESTS)


def isthmus(
    model_dir: Path,
    port: int,
    *,
    dtype: str,
    tensor_parallel: int = 1,
    device: str = "cpu",
    kernels: str = "auto",
) -> Peer:
    """Our LLM service with `tensor_parallel` ranks."""
    suffix = f", TP={tensor_parallel}" if tensor_parallel > 1 else ""
    suffix += ", plain torch" if kernels == "plain" else ""
    return Peer(
        name=f"isthmus {dtype}{suffix}",
        command=[sys.executable, "-m", "llm_backend.inference_server"],
        ready_path="/readyz",
        env={
            "LLM_MODEL": str(model_dir),
            "LLM_PORT": str(port),
            "LLM_DTYPE": dtype,
            "LLM_TENSOR_PARALLEL": str(tensor_parallel),
            "LLM_KERNELS": kernels,
            **(GPU_SETTINGS if device == "cuda" else {}),
        },
        requests=REQUESTS if device == "cpu" else GPU_REQUESTS,
    )


def vllm(executable: Path, model_dir: Path, port: int) -> Peer:
    """vLLM's CPU build."""
    flags = ["--dtype", "bfloat16", "--max-model-len", "1024", "--max-num-seqs", str(MAX_CLIENTS)]
    return Peer(
        name="vLLM CPU bf16",
        command=[str(executable), "serve", str(model_dir), "--port", str(port), *flags],
        ready_path="/health",
        env={
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "0-1",
            "VLLM_NO_USAGE_STATS": "1",
            # Its helpers (ninja, compilers) are looked up beside the executable.
            "PATH": f"{executable.parent}:{os.environ['PATH']}",
        },
    )


def llama_cpp(executable: Path, gguf: Path, port: int) -> Peer:
    """llama.cpp's server with continuous batching."""
    slots = ["-np", str(MAX_CLIENTS), "-c", str(MAX_CLIENTS * 512), "--cont-batching"]
    return Peer(
        name=f"llama.cpp {gguf.stem.rpartition('-')[2]}",
        command=[str(executable), "-m", str(gguf), "-t", THREADS, *slots, "--port", str(port)],
        ready_path="/health",
    )


def transformers_serve(executable: Path, model_dir: Path, port: int, device: str = "cpu") -> Peer:
    """`transformers serve` with continuous batching."""
    flags = ["--continuous-batching", "--device", device, "--dtype", "bfloat16"]
    limits = ["--cb-max-memory-percent", "0.1", "--attn-implementation", "sdpa"]
    return Peer(
        name="transformers serve bf16",
        command=[str(executable), "serve", str(model_dir), *flags, *limits, "--port", str(port)],
        ready_path="/health",
        model=str(model_dir),
        extra={"generation_config": '{"eos_token_id": null, "max_new_tokens": 64}'},
        requests={1: 3, 8: 16, 32: 32} if device == "cpu" else {1: 4, 8: 32, 32: 128},
    )


def deepspeed_generate(model_dir: Path, port: int) -> Peer:
    """`deepspeed.init_inference` and `generate` behind a lock: what a first version looks like."""
    return Peer(
        name="DeepSpeed generate behind a lock, bf16",
        command=[sys.executable, "-m", "bench.deepspeed_generate", str(model_dir), str(port)],
        ready_path="/v1/models",
        requests={1: 3, 8: 8},
    )
