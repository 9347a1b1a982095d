"""The whole LLM service with the bundled model: DeepSpeed ranks under mpirun, over HTTP."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from llm_backend.models import store
from llm_backend.settings import LlmSettings
from tests.support.llm_service import ServiceProcess, running_service
from tests.support.processes import wait_for

MODEL = "smollm2-135m-instruct"
QUESTIONS = (
    "What is the capital of France?",
    "Name three colours, and say what 12 + 30 is.",
    "Écris une phrase sur le café.",
)
TOKENS = 32


@pytest.fixture(scope="module")
def expected() -> list[str]:
    """What Hugging Face's own `generate` answers, greedily, in float32."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    directory = store.resolve(LlmSettings())
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    answers = []
    for question in QUESTIONS:
        messages = [{"role": "user", "content": question}]
        prompt: Any = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        ids = model.generate(**prompt, do_sample=False, max_new_tokens=TOKENS)
        answer = ids[0][prompt["input_ids"].shape[1] :]
        answers.append(tokenizer.decode(answer, skip_special_tokens=True))
    torch.set_num_threads(threads)
    return answers


@pytest.fixture(scope="module", params=[1, 2])
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServiceProcess]:
    log = tmp_path_factory.mktemp("service") / "log"
    ranks = {"LLM_TENSOR_PARALLEL": str(request.param), "LLM_RESTART_BACKOFF_S": "0.1"}
    with running_service(log, worker=None, seconds=240, **ranks) as running:
        yield running


def test_same_text_as_generate(service: ServiceProcess, expected: list[str]) -> None:
    texts = []
    for question in QUESTIONS:
        answer = service.openai.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": question}],
            temperature=0,
            max_tokens=TOKENS,
        )
        texts.append(answer.choices[0].message.content)
        assert answer.usage is not None
        assert 0 < answer.usage.completion_tokens <= TOKENS
    assert texts == expected


def test_streamed_is_the_same_text(service: ServiceProcess, expected: list[str]) -> None:
    stream = service.openai.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": QUESTIONS[1]}],
        temperature=0,
        max_tokens=TOKENS,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == expected[1]
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens  # the first test asked the same


def test_tenants_share_no_prefixes(service: ServiceProcess) -> None:
    body = {"model": MODEL, "prompt": "Once upon a time there was " * 8, "max_tokens": 1}

    def cached(**headers: str) -> int:
        usage = service.post("/v1/completions", body, **headers).json()["usage"]
        return int(usage["prompt_tokens_details"]["cached_tokens"])

    tenants = ({}, {"x-isthmus-tenant": "acme"}, {"x-isthmus-tenant": "zeta"})
    assert [cached(**sent) for sent in tenants] == [0, 0, 0]
    assert all(cached(**sent) > 0 for sent in tenants)


def test_a_seed_makes_sampling_reproducible(service: ServiceProcess) -> None:
    body = {"model": MODEL, "prompt": "Once", "max_tokens": 12, "seed": 7}
    texts = {service.post("/v1/completions", body).text.split('"text": ')[1] for _ in "ab"}
    assert len({text.split('"finish_reason"')[0] for text in texts}) == 1


def test_memory(service: ServiceProcess) -> None:
    """Front end, mpirun and ranks; pages that ranks share count once (PSS)."""
    family = [psutil.Process(service.process.pid), *service.family()]
    total = sum(process.memory_full_info().pss for process in family)
    assert total < 2 * 2**30 * len(service.ranks())


def test_a_lost_rank_and_recovery(service: ServiceProcess) -> None:
    """Kills the only rank, stops the second of two: each way costs one start of the engine."""
    family = service.family()
    ranks = service.ranks()
    ranks[-1].send_signal(signal.SIGKILL if len(ranks) == 1 else signal.SIGSTOP)
    wait_for(lambda: not service.is_ready(), 10, "not ready", poll_s=0.05)
    service.wait_ready(120)
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
    body = {"model": MODEL, "prompt": "The sky is", "max_tokens": 2, "temperature": 0}
    assert service.post("/v1/completions", body).status_code == 200


def test_the_front_end_loads_no_torch() -> None:
    code = (
        "import llm_backend.inference_server, sys;"
        "print([m for m in ('torch', 'transformers', 'deepspeed', 'ray') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"
