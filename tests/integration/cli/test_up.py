"""`isthmus up` as a process, over the mock LLM: start, ask, stop, and what can go wrong."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.support.processes import ROOT, free_port, running, wait_for
from tests.support.serve import START_SECONDS

ISTHMUS = ROOT / ".venv/bin/isthmus"
POOLS = "# Node pools\n\nThe GPU node pools carry the taint sku=gpu:NoSchedule.\n"


@dataclass
class Up:
    """One `isthmus up`, and what it started."""

    process: subprocess.Popen[bytes]
    log: Path
    environment: dict[str, str]
    directory: Path

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_until_it_says(self, text: str) -> None:
        wait_for(lambda: text in self.said() or self._ended(), START_SECONDS, f"isthmus up: {text}")
        assert text in self.said(), self.said()

    def _ended(self) -> bool:
        return self.process.poll() is not None

    def tree(self) -> list[psutil.Process]:
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def isthmus(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [ISTHMUS, *arguments],
            capture_output=True,
            text=True,
            env=self.environment,
            cwd=self.directory,
            timeout=60,
            check=False,
        )


@pytest.fixture(scope="module")
def llm_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    with running(
        ["-m", "contracts.mock_llm", "--port", str(port)],
        ready_url=f"http://127.0.0.1:{port}/readyz",
        log=tmp_path_factory.mktemp("mock") / "log",
    ):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def started(directory: Path, llm_url: str, **settings: str) -> Iterator[Up]:
    (directory / "docs").mkdir()
    (directory / "docs/pools.md").write_text(POOLS)
    environment = {
        **os.environ,
        "RAY_AUTH_MODE": "disabled",
        "RAG_STORE_URI": str(directory / "store"),
        "RAG_LLM_URL": llm_url,
        "SERVE_PORT": str(free_port()),
        "ISTHMUS_LOG_DIR": str(directory / "logs"),
        **settings,
    }
    log = directory / "up.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [ISTHMUS, "up"],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=directory,
            start_new_session=True,
        )
    try:
        yield Up(process, log, environment, directory)
    finally:
        process.terminate()
        process.wait(60)


def alive(processes: list[psutil.Process], seconds: float) -> list[str]:
    _, left = psutil.wait_procs(processes, timeout=seconds)
    return [" ".join(process.cmdline()) for process in left]


def is_taken(port: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(port))) == 0


def test_it_starts_answers_and_leaves_nothing_behind(tmp_path: Path, llm_url: str) -> None:
    with started(tmp_path, llm_url) as up:
        up.wait_until_it_says("Ctrl-C stops everything.")
        assert "created  docs/pools.md" in up.said()
        asked = up.isthmus("ask", "Which taint do the GPU node pools carry?")
        assert asked.returncode == 0, asked.stderr
        assert asked.stdout.startswith("The GPU node pools carry the taint sku=gpu:NoSchedule. [1]")
        assert "[1] Node pools, docs/pools.md" in asked.stdout
        again = up.isthmus("ingest", "docs", "up.log", "absent.md")
        assert (again.returncode, "absent.md" in again.stderr) == (2, True)
        again = up.isthmus("ingest", "docs")
        assert (again.returncode, "unchanged" in again.stdout) == (0, True)
        second = up.isthmus("up")
        assert second.returncode == 2
        assert f"Port {up.environment['SERVE_PORT']} " in second.stderr
        tree = up.tree()
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(40) == 130
        assert alive(tree, 2) == []
        assert not is_taken(up.environment["SERVE_PORT"])
    assert "Traceback" not in up.said()


def after_start(up: Up) -> bool:
    return "Starting the gateway" in up.said()


def once_ray_is_up(up: Up) -> bool:
    return any("raylet" in process.name() for process in up.tree())


@pytest.mark.parametrize("moment", [after_start, once_ray_is_up])
def test_a_signal_during_the_start_stops_it(
    tmp_path: Path, llm_url: str, moment: Callable[[Up], bool]
) -> None:
    with started(tmp_path, llm_url) as up:
        wait_for(lambda: moment(up), START_SECONDS, "the moment")
        tree = up.tree()
        up.process.send_signal(signal.SIGTERM)
        assert up.process.wait(40) == 143
        assert alive(tree, 10) == []


def test_a_child_that_dies_ends_it_and_is_named(tmp_path: Path, llm_url: str) -> None:
    with started(tmp_path, llm_url, RAG_TOP_K="none") as up:
        assert up.process.wait(START_SECONDS) == 1
        assert "The gateway ended with status 2." in up.said()
        assert "RAG_TOP_K" in up.said()
        assert "Traceback" not in up.said()


def test_killed_outright_it_takes_its_children_along(tmp_path: Path, llm_url: str) -> None:
    with started(tmp_path, llm_url) as up:
        up.wait_until_it_says("Ctrl-C stops everything.")
        tree = up.tree()
        up.process.kill()
        up.process.wait()
        assert alive(tree, 40) == []
