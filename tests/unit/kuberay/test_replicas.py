"""Waiting for old pods to end, with a clock that nobody has to wait for."""

from __future__ import annotations

from typing import Any, cast

import pytest

from kuberay import replicas
from kuberay.client import Cluster
from kuberay.errors import ServerError, WaitTimeoutError
from kuberay.models import PodState
from kuberay.wait import Clock


class Replica:
    """A cluster with one MPIJob, whose pods go away one listing after another."""

    def __init__(self, *listings: list[str] | Exception) -> None:
        self.listings = list(listings)
        self.suspended: list[bool] = []
        self.deleted: list[str] = []
        self.time = 0.0
        self.lines: list[str] = []
        self.job: dict[str, Any] = {
            "apiVersion": "kubeflow.org/v2beta1",
            "kind": "MPIJob",
            "metadata": {"name": "llm"},
            "spec": {"runPolicy": {"suspend": False}},
        }

    def get(self, _kind: str, _name: str) -> dict[str, Any]:
        return self.job

    def replace(self, job: dict[str, Any]) -> dict[str, Any]:
        self.job = job
        self.suspended.append(job["spec"]["runPolicy"]["suspend"])
        return job

    def pods(self, _found: object) -> list[PodState]:
        listing = self.listings.pop(0) if len(self.listings) > 1 else self.listings[0]
        if isinstance(listing, Exception):
            raise listing
        ended = PodState("ended", ready=False, over=True)
        return [ended, *(PodState(name, ready=True, over=False) for name in listing)]

    def delete_launcher(self, name: str) -> None:
        assert self.suspended == [True]
        self.deleted.append(name)

    def sleep(self, seconds: float) -> None:
        self.time += seconds

    def restart(self, timeout_s: float = 60) -> None:
        replicas.restart(
            cast(Cluster, self),
            "llm",
            timeout_s=timeout_s,
            on_progress=self.lines.append,
            clock=Clock(lambda: self.time, self.sleep),
        )


def test_new_pods_come_when_the_old_ones_are_gone() -> None:
    replica = Replica(["a", "b"], ["b"], ServerError("upgrading"), ["b"], [])
    replica.restart()
    assert replica.suspended == [True, False]
    assert replica.deleted == ["llm"]
    assert replica.lines == [
        "still ending: a, b",
        "still ending: b",
        "upgrading",
        "still ending: b",
    ]


def test_the_deadline_leaves_it_suspended_and_says_so() -> None:
    replica = Replica(["a"])
    with pytest.raises(WaitTimeoutError, match=r"After 9 s still ending: a\. llm stays suspended"):
        replica.restart(timeout_s=9)
    assert (replica.time, replica.suspended, replica.deleted) == (9, [True], [])
