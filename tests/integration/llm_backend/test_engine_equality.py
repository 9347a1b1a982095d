"""fp32 greedy output equals Hugging Face `generate` token for token, whatever the engine does."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from llm_backend.models.store import resolve
from llm_backend.runtime.ipc import SamplingParams, Submit
from llm_backend.settings import LlmSettings
from tests.support.engine import running_engine

NUM_PROMPTS = 50
NUM_TOKENS = 8
ALL_REDUCE = "deepspeed_shm_comm.so"
"""DeepSpeed's reduction in shared memory, which takes half a minute to compile."""

_GENERATE = """
import json, sys, torch
from transformers import AutoModelForCausalLM
torch.set_num_threads(2)
directory, prompts, new = sys.argv[1], json.load(sys.stdin), int(sys.argv[2])
model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
answers = []
for prompt in prompts:
    ids = torch.tensor([prompt])
    out = model.generate(ids, attention_mask=ids.new_ones(ids.shape), max_new_tokens=new,
                         do_sample=False)
    answers.append(out[0, len(prompt):].tolist())
json.dump(answers, sys.stdout)
"""


@pytest.fixture(scope="module")
def model_dir() -> Path:
    return resolve(LlmSettings())


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    """Token ids of 50 prompts, 3 to 120 tokens, many with a common head."""
    dice = random.Random(7)
    words = [dice.randrange(1000, 40000) for _ in range(400)]
    heads = [words[:48], words[48:80], []]
    return [
        dice.choice(heads) + dice.choices(words, k=dice.randrange(3, 72))
        for _ in range(NUM_PROMPTS)
    ]


@pytest.fixture(scope="module")
def expected(model_dir: Path, prompts: list[list[int]]) -> dict[str, list[int]]:
    """What Hugging Face generates, computed in a process of its own to keep this one small."""
    done = subprocess.run(
        [sys.executable, "-c", _GENERATE, str(model_dir), str(NUM_TOKENS)],
        input=json.dumps(prompts).encode(),
        stdout=subprocess.PIPE,
        check=True,
    )
    return {str(i): answer for i, answer in enumerate(json.loads(done.stdout))}


def segments() -> set[Path]:
    """Return what DeepSpeed has in shared memory by name."""
    return set(Path("/dev/shm").glob("deepspeed_allreduce_buffer_*"))  # noqa: S108


def requests(prompts: list[list[int]]) -> list[Submit]:
    return [
        Submit(str(i), prompt, SamplingParams(), NUM_TOKENS) for i, prompt in enumerate(prompts)
    ]


def test_kernels_alone_and_in_random_batches(
    model_dir: Path, prompts: list[list[int]], expected: dict[str, list[int]]
) -> None:
    settings = {"LLM_MAX_BATCHED_TOKENS": "96", "LLM_THREADS_PER_RANK": "2"}
    with running_engine(model_dir, LLM_DTYPE="float32", **settings) as engine:
        assert engine.generate(requests(prompts), shuffled=1) == expected
        assert max(engine.cached.values()) >= 32  # the prefix cache was used
        for each in requests(prompts):  # one at a time, everything in the cache now
            assert engine.generate([each]) == {each.request_id: expected[each.request_id]}


def test_plain_torch_without_prefix_cache_and_with_preemptions(
    model_dir: Path, prompts: list[list[int]], expected: dict[str, list[int]]
) -> None:
    settings = {
        "LLM_DTYPE": "float32",
        "LLM_PREFIX_CACHE": "false",
        "LLM_KERNELS": "plain",
        "LLM_KV_CACHE_MIB": "8",
        "LLM_BLOCK_SIZE": "4",
        "LLM_MAX_MODEL_LEN": "128",
        "LLM_THREADS_PER_RANK": "2",
    }
    with running_engine(model_dir, **settings) as engine:
        assert engine.generate(requests(prompts), shuffled=2) == expected
        assert engine.stats.preemptions > 0
        assert engine.stats.free_blocks == engine.stats.total_blocks
        assert set(engine.cached.values()) == {0}


def test_kernels_with_preemptions(
    model_dir: Path, prompts: list[list[int]], expected: dict[str, list[int]]
) -> None:
    settings = {
        "LLM_KV_CACHE_MIB": "8",
        "LLM_MAX_MODEL_LEN": "128",
        "LLM_MAX_BATCHED_TOKENS": "1024",  # prompts side by side: else they do not meet often
        "LLM_THREADS_PER_RANK": "2",
    }
    with running_engine(model_dir, LLM_DTYPE="float32", **settings) as engine:
        assert engine.generate(requests(prompts), shuffled=5) == expected
        assert engine.stats.preemptions > 0


def test_plain_torch_on_two_ranks(
    model_dir: Path, prompts: list[list[int]], expected: dict[str, list[int]]
) -> None:
    settings = {"LLM_DTYPE": "float32", "LLM_KERNELS": "plain"}
    before = segments()
    with running_engine(model_dir, ranks=2, **settings) as engine:
        assert [ALL_REDUCE in each for each in engine.libraries()] == [True, True]
        assert segments() <= before, "a killed rank would leave them behind"
        assert engine.generate(requests(prompts), shuffled=6) == expected


def test_kernels_on_two_ranks_in_random_batches(
    model_dir: Path, prompts: list[list[int]], expected: dict[str, list[int]]
) -> None:
    with running_engine(model_dir, ranks=2, LLM_DTYPE="float32") as engine:
        assert [ALL_REDUCE in each for each in engine.libraries()] == [False, False]
        assert engine.generate(requests(prompts), shuffled=3) == expected
        again = [
            Submit(f"again-{r.request_id}", r.prompt_ids, r.sampling, r.max_tokens)
            for r in requests(prompts)
        ]
        answers = engine.generate(again, shuffled=4)
        assert {f"again-{name}": tokens for name, tokens in expected.items()} == answers
