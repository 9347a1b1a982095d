"""Prints what every step of a small run does; docs/llm-engine.md shows its output.

LLM_MAX_BATCHED_TOKENS=32 LLM_DTYPE=float32 python -m bench.trace
"""

from __future__ import annotations

from transformers import AutoTokenizer

from llm_backend.engine.plan import StepPlan
from llm_backend.engine.sampler import Floats
from llm_backend.models.store import resolve
from llm_backend.runtime import job, shard
from llm_backend.runtime.ipc import Output, SamplingParams, Submit
from llm_backend.runtime.progress import Progress
from llm_backend.runtime.ranks import LockStep
from llm_backend.settings import LlmSettings

_HEAD = "An isthmus is a narrow strip of land that joins two larger areas across water. " * 2
_REQUESTS = {
    "A": _HEAD + "The best known isthmus is the Isthmus of",
    "B": "The capital of France is",
    "C": _HEAD + "A canal through an isthmus lets",
}
_ANSWER_TOKENS = 4


class Printing:
    """A model that prints each plan before it runs it."""

    def __init__(self, step: LockStep) -> None:
        self._step = step
        self.number = 0

    def run(self, plan: StepPlan) -> Floats:
        self.number += 1
        print(f"step {self.number}: {len(plan.tokens)} tokens")
        used = 0
        for i, count in enumerate(plan.block_counts):
            blocks = plan.blocks[used : used + count].tolist()
            used += count
            start, length = plan.starts[i], plan.lengths[i]
            end = "sample" if plan.samples[i] else "more to come"
            print(f"  tokens {start:3d}..{start + length - 1:3d}  blocks {blocks}  {end}")
        return self._step.run(plan)


def main() -> None:
    """Run the three requests, submitted together."""
    settings, progress = LlmSettings(), Progress(None)
    directory = resolve(settings)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    rank = job.join(settings, progress)
    loaded = shard.load(directory, settings, rank, progress)
    engine = job.build_engine(Printing(LockStep(rank, loaded.runner)), loaded, settings)
    for name, text in _REQUESTS.items():
        prompt = tokenizer(text).input_ids
        print(f"submit {name}: {len(prompt)} tokens")
        assert engine.submit(Submit(name, prompt, SamplingParams(), _ANSWER_TOKENS)) is None
    while engine.has_work:
        for output in engine.step():
            assert isinstance(output, Output)
            new = tokenizer.decode(output.token_ids)
            notes = f" cached={output.cached_tokens}" if output.cached_tokens else ""
            ending = f" finished: {output.finish_reason}" if output.finish_reason else ""
            print(f"  -> {output.request_id} {new!r}{notes}{ending}")


if __name__ == "__main__":
    main()
