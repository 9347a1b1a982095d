"""Waiting, with a clock that nobody has to wait for."""

from __future__ import annotations

from typing import Any, cast

import pytest

from kuberay.client import Cluster
from kuberay.errors import (
    ForbiddenError,
    ServerError,
    UnreachableError,
    WaitTimeoutError,
    WorkloadFailedError,
)
from kuberay.wait import Clock, wait_ready

READY = {"conditions": [{"type": "Ready", "status": "True"}]}


class Script:
    """A cluster that answers one thing after another, and then the last one for ever."""

    def __init__(self, *answers: dict[str, Any] | Exception) -> None:
        self.answers = list(answers)
        self.time = 0.0
        self.lines: list[str] = []

    def find(self, name: str) -> dict[str, Any]:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        kind = {"apiVersion": "ray.io/v1", "kind": "RayService", "metadata": {"name": name}}
        return kind | {"status": answer}

    def sleep(self, seconds: float) -> None:
        self.time += seconds

    def wait(self, timeout_s: float = 10) -> None:
        wait_ready(
            cast(Cluster, self),
            "rag",
            timeout_s=timeout_s,
            on_progress=self.lines.append,
            clock=Clock(lambda: self.time, self.sleep),
        )


def test_it_goes_on_through_passing_failures() -> None:
    script = Script(UnreachableError("away"), ServerError("upgrading"), {}, READY)
    script.wait()
    assert script.lines == [
        "away",
        "upgrading",
        "RayService rag: starting",
        "RayService rag: ready, 0 endpoints",
    ]


def test_the_deadline_holds_and_tells_the_last_line() -> None:
    script = Script({})
    with pytest.raises(WaitTimeoutError, match=r"Not ready after 9 s: RayService rag: starting"):
        script.wait(timeout_s=9)
    assert script.time == 9


def test_a_server_that_stays_away_ends_at_the_deadline() -> None:
    with pytest.raises(WaitTimeoutError, match="away"):
        Script(UnreachableError("away")).wait()


def test_a_refusal_ends_it_at_once() -> None:
    script = Script(ForbiddenError("no", 403))
    with pytest.raises(ForbiddenError):
        script.wait()
    assert script.time == 0


def test_a_failed_object_ends_it_at_once() -> None:
    class Job(Script):
        def find(self, name: str) -> dict[str, Any]:
            return {
                "apiVersion": "kubeflow.org/v2beta1",
                "kind": "MPIJob",
                "metadata": {"name": name},
                "status": {"conditions": [{"type": "Failed", "status": "True", "message": "x"}]},
            }

    with pytest.raises(WorkloadFailedError, match="failed: x"):
        Job({}).wait()
