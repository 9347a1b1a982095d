"""A real engine of two ranks under load: each rank killed, stopped, and leaving by itself.

`python -m bench.breaks` does the same twenty times with the bundled model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.support.breaks import BREAKS, break_rank
from tests.support.llm_service import ServiceProcess, running_service
from tests.support.tiny_model import write_tiny_llama

MAX_TOKENS = 50_000
"""More than the small model generates before it is broken."""


@dataclass(frozen=True)
class Running:
    service: ServiceProcess
    temporary: Path


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("broken")
    (directory / "t").mkdir()
    with running_service(
        directory / "log",
        worker="leaving",
        seconds=240,
        LLM_MODEL=str(write_tiny_llama(directory / "tiny")),
        LLM_TENSOR_PARALLEL="2",
        LLM_RESTART_BACKOFF_MAX_S="0.5",  # or each break soon after another waits longer
        TMPDIR=str(directory / "t"),
    ) as service:
        yield Running(service, directory / "t")
    assert list((directory / "t").iterdir()) == []


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("how", list(BREAKS))
def test_a_real_rank_breaks(running: Running, how: str, rank: int) -> None:
    service = running.service
    service.wait_ready()
    # 15 s is what an idle machine takes at most; tests run beside others.
    break_rank(service, how, rank, ready_within=60, max_tokens=MAX_TOKENS)
    body = {"model": service.model, "prompt": "ab", "max_tokens": 2, "ignore_eos": True}
    assert service.post("/v1/completions", body).status_code == 200


def test_what_breaks_left_behind(running: Running) -> None:
    running.service.wait_ready()
    front_end = psutil.Process(running.service.process.pid)
    assert len(list(running.temporary.iterdir())) == 1  # of the engine that runs now
    listening = [c for c in front_end.net_connections() if c.status == psutil.CONN_LISTEN]
    assert len(listening) == 1
    assert len(running.service.ranks()) == 2
