"""The Ray Serve application as a real process, on a Ray instance and a store of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

import httpx
import openai
import psutil

from tests.support.processes import free_port, running

START_SECONDS = 240
"""Generous: 13 s on an idle machine, minutes where others compete for two cores."""


@dataclass(frozen=True)
class Gateway:
    """One running gateway."""

    url: str
    process: Popen[bytes]
    log: Path

    def http(self, **options: object) -> httpx.Client:
        """Return a client of it."""
        return httpx.Client(base_url=self.url, timeout=60, **options)  # type: ignore[arg-type]

    def openai(self) -> openai.OpenAI:
        """Return the official client of it."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)

    def tree(self) -> list[psutil.Process]:
        """Return the serving process and all its descendants."""
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]


def environment(directory: Path, port: int, **settings: str) -> Mapping[str, str]:
    """Return what a gateway on `port` with its data in `directory` is started with."""
    return {
        "RAY_AUTH_MODE": "disabled",
        "RAG_STORE_URI": str(directory / "store"),
        "RAG_MEMORY_URL": str(directory / "threads.sqlite"),
        "SERVE_PORT": str(port),
        **settings,
    }


@contextmanager
def gateway(directory: Path, **settings: str) -> Iterator[Gateway]:
    """Run `python -m serve_app.main` until the block ends."""
    port, log = free_port(), directory / "gateway.log"
    url = f"http://127.0.0.1:{port}"
    with running(
        ["-m", "serve_app.main"],
        ready_url=f"{url}/healthz",
        log=log,
        env=environment(directory, port, **settings),
        seconds=START_SECONDS,
    ) as process:
        yield Gateway(url, process, log)
