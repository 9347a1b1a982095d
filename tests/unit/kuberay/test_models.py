"""An object's state, read from what the operators write into its status."""

from __future__ import annotations

from typing import Any

import pytest

from kuberay.errors import ClusterError, ManifestError
from kuberay.models import API_VERSIONS, kind_of, state_of


def condition(type_: str, status: str = "True", **more: str) -> dict[str, str]:
    return {"type": type_, "status": status, **more}


def found(kind: str, **status: Any) -> dict[str, Any]:
    version = API_VERSIONS[kind]  # type: ignore[index]
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "x"}, "status": status}


@pytest.mark.parametrize(
    ("object_", "ready", "failed", "line"),
    [
        (found("RayService"), False, False, "starting"),
        (
            found("RayService", conditions=[condition("Ready", "False", reason="Initializing")]),
            False,
            False,
            "starting: Initializing",
        ),
        (
            found(
                "RayService",
                conditions=[condition("Ready"), condition("UpgradeInProgress")],
                numServeEndpoints=2,
            ),
            True,
            False,
            "ready, 2 endpoints, upgrading",
        ),
        (
            found("RayCluster", state="ready", readyWorkerReplicas=1),
            True,
            False,
            "ready, 1/0 workers",
        ),
        (found("RayCluster", state="failed", reason="no quota"), False, True, "failed: no quota"),
        (found("RayCluster", state="suspended"), False, False, "suspended"),
        (found("RayCluster", desiredWorkerReplicas=2), False, False, "starting, 0/2 workers"),
        (found("MPIJob"), False, False, "starting, no pods yet"),
        (
            found(
                "MPIJob",
                conditions=[condition("Running")],
                replicaStatuses={"Launcher": {"active": 1}, "Worker": {"active": 3}},
            ),
            True,
            False,
            "running, 1 launcher, 3 worker",
        ),
        (
            found(
                "MPIJob",
                conditions=[condition("Running")],
                replicaStatuses={"Worker": {"active": 3}},
            ),
            False,
            False,
            "starting, 3 worker",
        ),
        (  # an evicted worker leaves "Failed" behind for good
            found(
                "MPIJob",
                conditions=[condition("Failed", message="evicted"), condition("Running")],
                replicaStatuses={"Launcher": {"active": 1}},
            ),
            True,
            False,
            "running, 1 launcher",
        ),
        (found("MPIJob", conditions=[condition("Suspended")]), False, False, "suspended, no pods"),
        (
            found("MPIJob", conditions=[condition("Failed", message="OOM")]),
            False,
            True,
            "failed: OOM",
        ),
        (
            found("MPIJob", conditions=[condition("Succeeded")]),
            False,
            True,
            "ended: an LLM service should never end",
        ),
    ],
)
def test_state(object_: dict[str, Any], ready: bool, failed: bool, line: str) -> None:
    state = state_of(object_)
    assert (state.ready, state.failed, state.line) == (ready, failed, line)


def test_a_status_of_another_shape_is_said() -> None:
    with pytest.raises(ClusterError, match=r"RayService x .*helm/platform"):
        state_of(found("RayService", conditions="ready"))


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        ({"kind": "Deployment"}, "Deployment is not managed"),
        ({"kind": "MPIJob", "apiVersion": "kubeflow.org/v1"}, r"write kubeflow\.org/v2beta1"),
    ],
)
def test_other_kinds_and_versions_are_refused(manifest: dict[str, str], words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        kind_of(manifest)
