"""One engine over two hosts: network namespaces and a launch agent in place of pods and ssh."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.support import hosts
from tests.support.hosts import Hosts
from tests.support.llm_service import ServiceProcess, running_service
from tests.support.processes import wait_for
from tests.support.tiny_model import write_tiny_llama

pytestmark = pytest.mark.skipif(not hosts.available(), reason="needs root and iproute2")
PROMPTS = ["hello", "An isthmus is", "0123456789" * 9]


@dataclass(frozen=True)
class Pair:
    hosts: Hosts
    service: ServiceProcess


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("two") / "tiny")


@pytest.fixture(scope="module")
def pair(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    directory = tmp_path_factory.mktemp("two")
    (directory / "t").mkdir()
    with (
        hosts.two_hosts(directory, hidden=directory / "t") as both,
        both.near_network(),
        running_service(
            directory / "log",
            worker="leaving",
            seconds=120,
            LLM_MODEL=str(model),
            LLM_TENSOR_PARALLEL="2",
            LLM_MPIRUN_ARGS=both.mpirun_args,
            LLM_RESTART_BACKOFF_MAX_S="0.5",
            TMPDIR=str(directory / "t"),
        ) as service,
    ):
        yield Pair(both, service)
    assert list((directory / "t").iterdir()) == []


def answers(service: ServiceProcess) -> list[str]:
    body = {"model": service.model, "prompt": PROMPTS, "max_tokens": 12, "temperature": 0}
    response = service.post("/v1/completions", {**body, "ignore_eos": True})
    assert response.status_code == 200, response.text
    return [choice["text"] for choice in response.json()["choices"]]


def test_two_hosts_answer_as_one_does(pair: Pair, model: Path, tmp_path: Path) -> None:
    assert "the ranks are on several hosts" in pair.service.log.read_text()
    with running_service(tmp_path / "log", worker=None, LLM_MODEL=str(model)) as alone:
        assert answers(pair.service) == answers(alone)


def test_a_stopped_rank_on_the_other_host(pair: Pair) -> None:
    pair.service.wait_ready()
    family = pair.service.family()
    pair.service.rank(1).send_signal(signal.SIGSTOP)
    wait_for(lambda: not pair.service.is_ready(), 10, "not ready")
    assert "rank 1" in pair.service.readyz()[1]["reason"]
    pair.service.wait_ready(90)
    _, alive = psutil.wait_procs(family, timeout=5)
    assert alive == []


def test_a_cut_cable_ends_the_rank_beyond_it(pair: Pair) -> None:
    pair.service.wait_ready()
    family = pair.service.family()
    pair.hosts.cut()
    wait_for(lambda: not pair.service.is_ready(), 10, "not ready")
    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []
