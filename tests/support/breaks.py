"""Breaking a rank while requests run, and what must hold then, timed."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.support.llm_service import ServiceProcess
from tests.support.processes import wait_for

BREAKS: dict[str, Callable[[psutil.Process], None]] = {
    "kill -9": lambda rank: rank.send_signal(signal.SIGKILL),
    "SIGSTOP": lambda rank: rank.send_signal(signal.SIGSTOP),
    "exit 0": lambda rank: rank.send_signal(signal.SIGUSR1),
}
"""By name; SIGUSR1 is understood by `fake_worker` and `leaving_worker`."""

RED_WITHIN_S = {"kill -9": 2.0, "SIGSTOP": 10.0, "exit 0": 2.0}
"""What the service promises: until then `/readyz` may still be green."""

ERRORS_S = 10.0
"""From the moment at which the service knows, every request has its error within this."""


class Load:
    """Requests in flight while the engine breaks: two streams and two that are not."""

    def __init__(self, service: ServiceProcess, max_tokens: int = 4000) -> None:
        self._service = service
        self._body = {
            "model": service.model,
            "prompt": "ab",
            "max_tokens": max_tokens,
            "ignore_eos": True,
        }
        self._pool = ThreadPoolExecutor(4)
        self._begun = threading.Semaphore(0)
        self._streams = [self._pool.submit(self._stream) for _ in range(2)]
        self._whole = [
            self._pool.submit(service.post, "/v1/completions", self._body) for _ in range(2)
        ]
        for _ in self._streams:
            assert self._begun.acquire(timeout=20)

    def _stream(self) -> dict[str, Any]:
        body = {**self._body, "stream": True}
        last = ""
        url = f"{self._service.url}/v1/completions"
        with httpx.stream("POST", url, json=body, timeout=60) as response:
            for line in response.iter_lines():
                if not last and line:
                    self._begun.release()
                last = line or last
        frame: dict[str, Any] = json.loads(last.removeprefix("data: "))
        return frame

    def assert_retryable_errors(self) -> None:
        for stream in self._streams:
            assert stream.result(ERRORS_S)["error"]["code"] == "not_ready"
        for whole in self._whole:
            response = whole.result(ERRORS_S)
            assert response.status_code == 503, response.text
            assert int(response.headers["retry-after"]) >= 1
        self._pool.shutdown()


@dataclass(frozen=True)
class Recovery:
    """Seconds from a break until the service said so, all requests had errors, it was back."""

    red: float
    answered: float
    ready: float


def break_rank(
    service: ServiceProcess,
    how: str,
    index: int,
    *,
    ready_within: float,
    max_tokens: int = 4000,
) -> Recovery:
    """Break one rank under load; the service must answer everything, heal, and leave nothing.

    Args:
        how: a key of `BREAKS`.
        index: of the rank.
        ready_within: seconds until it must be green again.
        max_tokens: of each request in flight; so many that none finishes before.
    """
    restarts = service.readyz()[1]["restarts"]
    shared, family, load = _shared_memory(), service.family(), Load(service, max_tokens)
    began = time.monotonic()
    BREAKS[how](service.rank(index))
    wait_for(lambda: service.readyz()[0] == 503, RED_WITHIN_S[how], "not ready", poll_s=0.01)
    red = time.monotonic() - began
    assert f"rank {index}" in service.readyz()[1]["reason"]
    load.assert_retryable_errors()
    answered = time.monotonic() - began
    service.wait_ready(ready_within)
    ready = time.monotonic() - began
    assert service.readyz()[1]["restarts"] == restarts + 1
    _, alive = psutil.wait_procs(family, timeout=5)
    assert alive == []
    wait_for(lambda: _shared_memory() <= shared, 5, "no leaked shared memory")
    return Recovery(red, answered, ready)


def _shared_memory() -> set[str]:
    return {path.name for path in Path("/dev/shm").glob("deepspeed*")}  # noqa: S108
