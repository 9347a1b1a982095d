"""The main job as its first user meets it: one command, a question, a cited answer, Ctrl-C."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import openai
import psutil
import pytest

from tests.support.system import System, interrupt, is_open, up

QUESTION = "Which taint do the GPU node pools carry?"
pytestmark = pytest.mark.timeout(900)  # two starts of everything, on a new machine with builds
GREEDY = [{"role": "user", "content": "Name three colours of the rainbow."}]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with up(tmp_path_factory.mktemp("up")) as running:
        yield running


def greedy_text(url: str) -> str:
    """Return what the LLM service says, greedily, to a fixed question."""
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    (model,) = client.models.list()
    answer = client.chat.completions.create(
        model=model.id, messages=GREEDY, max_tokens=24, temperature=0
    )
    return answer.choices[0].message.content or ""


def commands(processes: list[psutil.Process]) -> list[str]:
    return [" ".join(process.cmdline()) for process in processes if process.is_running()]


def test_a_question_about_the_docs_is_answered_with_its_source(system: System) -> None:
    asked = system.isthmus("ask", QUESTION)
    assert asked.returncode == 0, asked.stderr
    assert "sku=gpu:NoSchedule" in asked.stdout
    assert "[1]" in asked.stdout
    assert "architecture" in asked.stdout


def test_the_tokens_come_from_a_deepspeed_rank_under_mpirun(system: System) -> None:
    (rank,) = [p for p in system.tree() if p.cmdline()[1:3] == ["-m", "llm_backend.runtime.worker"]]
    launcher = rank.parent()
    assert launcher is not None
    assert launcher.name() in {"mpirun", "prterun"}  # Open MPI 5's mpirun execs prterun
    libraries = {Path(mapped.path).name for mapped in rank.memory_maps()}
    assert any(name.startswith("libtorch_cpu") for name in libraries)
    assert any(name.startswith("libmpi") for name in libraries)


@pytest.mark.parametrize("side", ["gateway", "llm"])
def test_the_official_client_works_on_both_sides(system: System, side: str) -> None:
    url = system.gateway if side == "gateway" else system.llm
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    model = next(iter(client.models.list())).id
    asked = {
        "model": model,
        "messages": [{"role": "user", "content": QUESTION}],
        "max_tokens": 24,
        "temperature": 0,
    }
    whole = client.chat.completions.create(**asked)  # type: ignore[call-overload]
    chunks = list(client.chat.completions.create(**asked, stream=True))  # type: ignore[call-overload]
    streamed = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert whole.choices[0].message.content
    assert streamed == whole.choices[0].message.content
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    assert whole.usage.completion_tokens <= 24


def test_two_ranks_say_the_same_and_ctrl_c_leaves_nothing_behind(
    system: System, tmp_path: Path
) -> None:
    with up(tmp_path, LLM_TENSOR_PARALLEL="2") as two:
        assert greedy_text(two.llm) == greedy_text(system.llm)
        asked = two.isthmus("ask", QUESTION)
        assert "sku=gpu:NoSchedule" in asked.stdout, asked.stderr
        # mpirun's command line names the worker too: one launcher, two ranks.
        tree = two.tree()
        assert (
            len([line for line in commands(tree) if "-m llm_backend.runtime.worker" in line]) == 3
        )
        assert interrupt(two) == 130
        _, alive = psutil.wait_procs(tree, timeout=5)
        assert commands(alive) == []
        assert not is_open(two.gateway)
        assert not is_open(two.llm)
