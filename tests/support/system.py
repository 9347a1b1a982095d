"""The whole system as `scripts/up` starts it, on free ports and with a store of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.support.processes import ROOT, free_port, wait_for

START_SECONDS = 600
"""Generous: models may have to be converted and kernels built, on cores shared by two systems."""


@dataclass(frozen=True)
class System:
    """One running system and how to talk to it."""

    process: subprocess.Popen[bytes]
    log: Path
    gateway: str
    llm: str
    environment: dict[str, str]

    def isthmus(self, *arguments: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        """Run the `isthmus` command against this system."""
        return subprocess.run(
            [str(ROOT / ".venv/bin/isthmus"), *arguments],
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=seconds,
            check=False,
            cwd=ROOT,
        )

    def tree(self) -> list[psutil.Process]:
        """Return the process of `scripts/up` and all its descendants."""
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def output(self) -> str:
        """Return what it printed so far."""
        return self.log.read_text(errors="replace")


@contextmanager
def up(directory: Path, **settings: str) -> Iterator[System]:
    """Run `scripts/up` without a terminal until the block ends; it is then interrupted."""
    gateway, llm = free_port(), free_port()
    environment = {
        **os.environ,
        "SERVE_PORT": str(gateway),
        "LLM_PORT": str(llm),
        "RAG_STORE_URI": str(directory / "store"),
        **settings,
    }
    log = directory / "up.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(ROOT / "scripts/up")],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    urls = f"http://127.0.0.1:{gateway}", f"http://127.0.0.1:{llm}"
    system = System(process, log, *urls, environment)
    try:
        wait_for(lambda: _told_what_to_try(system), START_SECONDS, "scripts/up", poll_s=0.2)
        yield system
    finally:
        interrupt(system)


def interrupt(system: System, seconds: float = 40) -> int:
    """Send SIGINT to `scripts/up` alone, as Ctrl-C in a supervisor does, and return its status."""
    if system.process.poll() is None:
        system.process.send_signal(signal.SIGINT)
    return system.process.wait(seconds)


def is_open(url: str) -> bool:
    """Whether anybody accepts connections at `url`."""
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.socket() as s:
        s.settimeout(1)
        return s.connect_ex((host, int(port))) == 0


def _told_what_to_try(system: System) -> bool:
    if system.process.poll() is not None:
        raise RuntimeError(f"scripts/up ended:\n{system.output()[-6000:]}")
    return "isthmus ask" in system.output()
