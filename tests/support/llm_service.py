"""The LLM service as a process, over real ranks or over `tests.support.fake_worker`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil

from llm_backend import inference_server
from tests.support.processes import free_port, running, wait_for

WORKERS = {
    "fake": (sys.executable, "-m", "tests.support.fake_worker"),
    "leaving": (sys.executable, "-m", "tests.support.leaving_worker"),
}
"""What this module's service starts as ranks, by its argument."""


@dataclass(frozen=True)
class ServiceProcess:
    """A running service."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    @property
    def openai(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)

    @property
    def model(self) -> str:
        return str(httpx.get(f"{self.url}/v1/models").json()["data"][0]["id"])

    def readyz(self) -> tuple[int, dict[str, Any]]:
        response = httpx.get(f"{self.url}/readyz", timeout=5)
        return response.status_code, response.json()

    def is_ready(self) -> bool:
        return self.readyz()[0] == 200

    def wait_ready(self, seconds: float = 60) -> None:
        wait_for(self.is_ready, seconds, "ready again", poll_s=0.02)

    def family(self) -> list[psutil.Process]:
        """mpirun and the ranks; none once the service has ended."""
        if self.process.poll() is not None:
            return []
        return psutil.Process(self.process.pid).children(recursive=True)

    def ranks(self) -> list[psutil.Process]:
        """The ranks, in order: mpirun starts them so."""
        lines = [(p, p.cmdline()) for p in self.family()]
        found = [p for p, line in lines if "--lifeline" in line and "-np" not in line]
        return sorted(found, key=lambda p: p.pid)

    def rank(self, index: int) -> psutil.Process:
        """The process of one rank."""
        return self.ranks()[index]

    def post(self, path: str, body: dict[str, Any] | bytes, **headers: str) -> httpx.Response:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return httpx.post(f"{self.url}{path}", content=raw, headers=headers, timeout=60)


@contextmanager
def running_service(
    log: Path,
    *,
    worker: str | None = "fake",
    scheme: str = "http",
    seconds: float = 60,
    **env: str,
) -> Iterator[ServiceProcess]:
    """Run the service with `env` until the block ends; it must leave no process behind.

    Args:
        worker: a key of `WORKERS`; None for the real thing.
    """
    port = free_port()
    ours = ["tests.support.llm_service", worker] if worker else ["llm_backend.inference_server"]
    url = f"{scheme}://127.0.0.1:{port}"
    env = {"LLM_PORT": str(port), "LLM_THREADS_PER_RANK": "1", "OMP_NUM_THREADS": "1", **env}
    with running(
        ["-m", *ours], ready_url=f"{url}/readyz", log=log, env=env, seconds=seconds
    ) as process:
        service = ServiceProcess(process, url, log)
        yield service
        family = service.family()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive, alive


if __name__ == "__main__":
    kind = sys.argv[1] if len(sys.argv) > 1 else "fake"
    sys.exit(inference_server.main(worker=WORKERS[kind]))
