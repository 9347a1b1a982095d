"""How long steps take on a GPU: with kernels and CUDA graphs, without graphs, in plain torch.

    python -m bench.gpu_steps --shape 135m --profile

The model has random weights in bf16; a step ends when its logits are on the host, as the engine
reads them. Medians, in turns. Prints a table.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from llm_backend.engine.plan import StepPlan
from llm_backend.runtime import model, runner
from llm_backend.runtime.gpu import norms
from llm_backend.runtime.gpu.inputs import Capacity
from llm_backend.runtime.gpu.runner import GpuRunner
from llm_backend.runtime.progress import Progress
from llm_backend.runtime.ranks import StepRunner

SHAPES = {
    # layers, hidden, intermediate, query heads, key-value heads
    "135m": (30, 576, 1536, 9, 3),
    "1b": (16, 2048, 8192, 32, 8),
    "8b": (32, 4096, 14336, 32, 8),
}
VOCABULARY = 49152
BLOCK = 16
CAPACITY = Capacity(tokens=2048, sequences=128, context=4096, block_size=BLOCK)
DEVICE = torch.device("cuda")


def save_random(shape: str, directory: Path) -> None:
    """Write a Llama of a shape with random weights, made on the GPU."""
    layers, hidden, intermediate, heads, kv_heads = SHAPES[shape]
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=8192,
        dtype=torch.bfloat16,
    )
    with DEVICE:
        made: torch.nn.Module = LlamaForCausalLM(config)
    made.bfloat16().save_pretrained(directory)  # type: ignore[operator]


def plan(sequences: int, length: int, context: int) -> StepPlan:
    """Return a step of `length` tokens of each sequence, after `context` tokens of it."""
    blocks = -(-(context + length) // BLOCK)
    everywhere = np.ones(sequences, dtype=np.int32)
    return StepPlan(
        lengths=everywhere * length,
        starts=everywhere * context,
        samples=everywhere,
        tokens=np.arange(sequences * length, dtype=np.int32) % VOCABULARY,
        block_counts=everywhere * blocks,
        blocks=np.arange(sequences * blocks, dtype=np.int32),
    )


PLANS = {
    "decode 1 after 512": plan(1, 1, 512),
    "decode 32 after 512": plan(32, 1, 512),
    "decode 128 after 512": plan(128, 1, 512),
    "decode 32 after 3072": plan(32, 1, 3072),
    "prefill 256": plan(1, 256, 0),
    "prefill 2048": plan(1, 2048, 0),
}


def took_ms(running: StepRunner, given: StepPlan) -> float:
    """Return the milliseconds of one step."""
    start = time.perf_counter()
    running.run(given).float().cpu()
    return (time.perf_counter() - start) * 1e3


def profile(running: GpuRunner, given: StepPlan) -> None:
    """Print what a step spends its time on."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
        running.run(given).cpu()
    print(seen.key_averages().table(sort_by="self_cuda_time_total", row_limit=14))


def main() -> None:
    """Time every plan with every runner."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="135m")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        save_random(given.shape, Path(directory))
        torch.cuda.empty_cache()
        loaded = model.load(Path(directory), torch.bfloat16, 1, lambda *_: None, DEVICE)
    caches = runner.allocate(model.probe(loaded, DEVICE), 128 * 1024, torch.bfloat16, DEVICE)
    plain = runner.Runner(loaded, caches, BLOCK, DEVICE, Progress(None))
    eager, unfused, graphs = (
        GpuRunner(loaded, caches, CAPACITY, DEVICE, Progress(None)) for _ in range(3)
    )
    unfused.capture()  # a graph keeps the kernels that it was captured with
    print(f"{norms.fuse(loaded.module)} norms fused")
    start = time.perf_counter()
    graphs.capture()
    print(f"graphs captured in {time.perf_counter() - start:.1f} s")
    runners: dict[str, StepRunner] = {
        "graphs": graphs,
        "graphs, Hugging Face's norms": unfused,
        "no graphs": eager,
        "plain torch": plain,
    }
    print(f"{given.shape}, {torch.cuda.get_device_name()}, ms: {', '.join(runners)}")
    for name, each in PLANS.items():
        took: dict[str, list[float]] = {kind: [] for kind in runners}
        for _ in range(given.rounds):
            for kind, running in runners.items():
                took[kind].append(took_ms(running, each))
        print(name, *(f"{statistics.median(values):.2f}" for values in took.values()))
        if given.profile:
            profile(eager, each)


if __name__ == "__main__":
    main()
