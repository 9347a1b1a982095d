"""The engine by itself, without HTTP: throughput, latency and where a step's time goes.

    python -m bench.engine                                  one rank
    mpirun --bind-to none -np 2 python -m bench.engine      two ranks, tensor parallel
    python -m bench.engine --steps                          single steps: decodes and a prefill

Closed loop, greedy, EOS ignored; prompts of `--prompt` tokens that share a head of `--shared`.
Settings come from `LLM_*` as for the service. Run it on an idle machine: a busy neighbour on two
cores slows every step by more than half.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from llm_backend.engine.engine import Engine
from llm_backend.engine.plan import StepPlan
from llm_backend.engine.sampler import Floats
from llm_backend.engine.scheduler import Chunk
from llm_backend.engine.sequence import Sequence
from llm_backend.models.store import resolve
from llm_backend.runtime import job, shard
from llm_backend.runtime.ipc import Output, SamplingParams, Submit
from llm_backend.runtime.progress import Progress
from llm_backend.runtime.ranks import LockStep, Rank
from llm_backend.settings import LlmSettings

_TINY = torch.zeros(1)


class Stopwatch:
    """Wraps the model to tell its time from the rest of a step's."""

    def __init__(self, step: LockStep) -> None:
        self._step = step
        self.seconds = 0.0

    def run(self, plan: StepPlan) -> Floats:
        start = time.perf_counter()
        logits = self._step.run(plan)
        self.seconds += time.perf_counter() - start
        return logits


@dataclass
class Client:
    """One closed-loop client: its request's start and the times of its tokens."""

    started: float
    times: list[float] = field(default_factory=list)


@dataclass
class Round:
    """What one round at one load measured; times in seconds."""

    elapsed: float = 0.0
    tokens: int = 0
    first: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)

    def row(self, clients: int, model_share: float) -> str:
        gaps = sorted(self.gaps)
        return (
            f"{clients:4d} {self.tokens / self.elapsed:8.1f} tok/s   "
            f"TTFT p50 {statistics.median(self.first) * 1e3:7.1f} ms   "
            f"ITL p50 {statistics.median(gaps) * 1e3:6.1f} ms  "
            f"p99 {gaps[int(len(gaps) * 0.99)] * 1e3:6.1f} ms   model {model_share:.0%}"
        )


def measure(
    engine: Engine[Any], clients: int, requests: int, prompt: Callable[[], list[int]], answer: int
) -> Round:
    """Keep `clients` requests going until `requests` were answered."""
    result = Round()
    going: dict[str, Client] = {}
    started = time.perf_counter()
    submitted = finished = 0
    while finished < requests:
        while len(going) < clients and submitted < requests:
            name = str(submitted)
            sampling = SamplingParams(ignore_eos=True)
            assert engine.submit(Submit(name, prompt(), sampling, answer)) is None
            going[name] = Client(time.perf_counter())
            submitted += 1
        for output in engine.step():
            assert isinstance(output, Output), output
            client = going[output.request_id]
            client.times.append(time.perf_counter())
            if output.finish_reason is not None:
                assert len(client.times) == answer
                _record(result, going.pop(output.request_id))
                finished += 1
    result.elapsed = time.perf_counter() - started
    return result


def _record(result: Round, client: Client) -> None:
    result.tokens += len(client.times)
    result.first.append(client.times[0] - client.started)
    result.gaps += [b - a for a, b in zip(client.times, client.times[1:], strict=False)]


def time_steps(step: LockStep, block_size: int) -> None:
    """Print the time of decode steps at 256 tokens of context, and of one prefill of 512."""
    blocks = -(-512 // block_size)
    for count in (1, 8, 32):
        decodes = [_sequence(256, range(i * blocks, (i + 1) * blocks)) for i in range(count)]
        for each in decodes:
            each.num_computed = 255
        _time(f"decode of {count:2d}", step, [Chunk(each, 1) for each in decodes])
    for length in (64, 128, 512):
        chunk = Chunk(_sequence(length, range(blocks)), length)
        _time(f"prefill of {length:3d}", step, [chunk])


class Nothing:
    """A model that only waits until every rank has its plan."""

    def run(self, plan: StepPlan) -> Tensor:
        if dist.is_initialized():
            dist.all_reduce(_TINY)
        return _TINY


def time_broadcast(rank: Rank, block_size: int) -> None:
    """Print what a plan of 32 decodes costs until all ranks have it, its confirmation included."""
    step = LockStep(rank, Nothing())
    if rank.index > 0:
        step.follow()
        return
    blocks = -(-256 // block_size)
    decodes = [_sequence(256, range(i * blocks, (i + 1) * blocks)) for i in range(32)]
    for each in decodes:
        each.num_computed = 255
    _time("broadcast of 32", step, [Chunk(each, 1) for each in decodes], repeats=500)
    step.stop()


def _sequence(length: int, blocks: Iterable[int]) -> Sequence:
    made = Sequence("", list(range(length)), SamplingParams(), max_length=length + 1)
    made.blocks = list(blocks)
    return made


def _time(what: str, step: LockStep, chunks: list[Chunk], repeats: int = 25) -> None:
    plan, times = StepPlan.of(chunks), []
    for _ in range(repeats):
        start = time.perf_counter()
        step.run(plan)
        times.append((time.perf_counter() - start) * 1e3)
    print(
        f"{what}: median {statistics.median(times):6.1f} ms, best {min(times):6.1f} ms", flush=True
    )


def prompts(length: int, shared: int, seed: int) -> Callable[[], list[int]]:
    """Return what makes prompts of random words with one common head."""
    dice = random.Random(seed)
    head = [dice.randrange(1000, 40000) for _ in range(shared)]
    return lambda: head + [dice.randrange(1000, 40000) for _ in range(length - shared)]


def main() -> None:
    """Print one line for each load and round."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--requests", type=int, default=3, help="for each client")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompt", type=int, default=200)
    parser.add_argument("--shared", type=int, default=150)
    parser.add_argument("--answer", type=int, default=64)
    parser.add_argument("--steps", action="store_true", help="time single steps instead")
    options = parser.parse_args()
    settings, progress = LlmSettings(), Progress(None)
    rank = job.join(settings, progress)
    loaded = shard.load(resolve(settings), settings, rank, progress)
    if options.steps:
        time_broadcast(rank, settings.block_size)
    step = LockStep(rank, loaded.runner)
    if rank.index > 0:
        step.follow()
        return
    if options.steps:
        time_steps(step, settings.block_size)
        step.stop()
        return
    watch = Stopwatch(step)
    engine = job.build_engine(watch, loaded, settings)
    print(
        f"{settings.dtype}, {rank.size} ranks, kernels {settings.kernels}, "
        f"load {os.getloadavg()[0]:.2f}"
    )
    for number in range(options.rounds):
        for clients in options.clients:
            make = prompts(options.prompt, options.shared, seed=number * 1000 + clients)
            watch.seconds = 0.0
            total = max(4, clients * options.requests)
            result = measure(engine, clients, total, make, options.answer)
            print(result.row(clients, watch.seconds / result.elapsed), flush=True)
    step.stop()


if __name__ == "__main__":
    main()
