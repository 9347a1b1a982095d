"""The three custom resources that Isthmus runs on, as the API server names them, and their state.

`state_of` is a pure function of an object as the API server returned it: what a person needs to
know of it in one line, and whether waiting for it is over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lightkube.generic_resource import GenericNamespacedResource, create_namespaced_resource
from lightkube.resources.core_v1 import Pod
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kuberay.errors import ClusterError, ManifestError

Kind = Literal["RayService", "RayCluster", "MPIJob"]
Object = Mapping[str, Any]

RAY_SERVICE = create_namespaced_resource("ray.io", "v1", "RayService", "rayservices")
RAY_CLUSTER = create_namespaced_resource("ray.io", "v1", "RayCluster", "rayclusters")
MPI_JOB = create_namespaced_resource("kubeflow.org", "v2beta1", "MPIJob", "mpijobs")

RESOURCES: Mapping[Kind, type[GenericNamespacedResource]] = {
    "RayService": RAY_SERVICE,
    "RayCluster": RAY_CLUSTER,
    "MPIJob": MPI_JOB,
}
API_VERSIONS: Mapping[Kind, str] = {
    "RayService": "ray.io/v1",
    "RayCluster": "ray.io/v1",
    "MPIJob": "kubeflow.org/v2beta1",
}


class _Read(BaseModel):
    """Part of an object that we read; the rest of it is the operators' business."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Condition(_Read):
    """One entry of `status.conditions`."""

    type: str
    status: str
    reason: str = ""
    message: str = ""


class ActiveCluster(_Read):
    """The Ray cluster that a RayService sends its traffic to."""

    rayClusterName: str = ""  # noqa: N815 - the API's spelling


class ReplicaStatus(_Read):
    """Pods of one role of an MPIJob."""

    active: int = 0


class Status(_Read):
    """`status` of any of the three kinds."""

    conditions: tuple[Condition, ...] = ()
    state: str = ""
    reason: str = ""
    numServeEndpoints: int = 0  # noqa: N815
    readyWorkerReplicas: int = 0  # noqa: N815
    desiredWorkerReplicas: int = 0  # noqa: N815
    activeServiceStatus: ActiveCluster = Field(default_factory=ActiveCluster)  # noqa: N815
    replicaStatuses: dict[str, ReplicaStatus] = Field(default_factory=dict)  # noqa: N815

    def condition(self, type_: str) -> Condition | None:
        """Return the condition of that type, if it is true."""
        found = (c for c in self.conditions if c.type == type_ and c.status == "True")
        return next(found, None)


@dataclass(frozen=True)
class State:
    """What a person needs to know of an object. `failed`: waiting longer is useless."""

    kind: Kind
    name: str
    ready: bool
    failed: bool
    line: str


@dataclass(frozen=True)
class PodState:
    """One pod. `over`: it has ended and will not start again."""

    name: str
    ready: bool
    over: bool


def pod_state(pod: Pod) -> PodState:
    """Read a pod's state."""
    status = pod.status
    conditions = (status.conditions if status else None) or []
    return PodState(
        name=str(pod.metadata.name if pod.metadata else ""),
        ready=any(c.type == "Ready" and c.status == "True" for c in conditions),
        over=bool(status and status.phase in ("Succeeded", "Failed")),
    )


def kind_of(manifest: Object) -> Kind:
    """Return a manifest's kind.

    Raises:
        ManifestError: it is none of the three, or its API version is not the one we speak.
    """
    kind = next((k for k in RESOURCES if k == manifest.get("kind")), None)
    if kind is None:
        raise ManifestError(
            f"{manifest.get('kind')} is not managed by `isthmus cluster`, only "
            f"{', '.join(RESOURCES)}; install the rest with Helm."
        )
    if manifest.get("apiVersion") != API_VERSIONS[kind]:
        raise ManifestError(
            f"{kind} has apiVersion {manifest.get('apiVersion')!r}; write {API_VERSIONS[kind]}."
        )
    return kind


def status_of(found: Object) -> Status:
    """Read an object's status.

    Raises:
        ClusterError: the status has another shape than the operators' CRDs say.
    """
    try:
        return Status.model_validate(found.get("status") or {})
    except ValidationError as error:
        name = f"{found.get('kind')} {(found.get('metadata') or {}).get('name')}"
        raise ClusterError(
            f"{name} has a status of an unknown shape ({error.errors()[0]['msg']}); "
            "check that the operators have the versions in helm/platform/versions.yaml."
        ) from error


def state_of(found: Object) -> State:
    """Tell an object's state."""
    kind = kind_of(found)
    status = status_of(found)
    read = {"RayService": _service, "RayCluster": _cluster, "MPIJob": _job}[kind]
    ready, failed, line = read(status)
    return State(kind, found["metadata"]["name"], ready, failed, line)


def _service(status: Status) -> tuple[bool, bool, str]:
    upgrading = ", upgrading" if status.condition("UpgradeInProgress") else ""
    if status.condition("Ready"):
        return True, False, f"ready, {status.numServeEndpoints} endpoints{upgrading}"
    waiting = next((c for c in status.conditions if c.type == "Ready"), None)
    why = f": {waiting.reason} {waiting.message}".rstrip() if waiting else ""
    return False, False, f"starting{upgrading}{why}"


def _cluster(status: Status) -> tuple[bool, bool, str]:
    workers = f"{status.readyWorkerReplicas}/{status.desiredWorkerReplicas} workers"
    if status.state == "failed":
        return False, True, f"failed: {status.reason or 'see `kubectl describe`'}"
    if status.state == "suspended":
        return False, False, "suspended"
    return status.state == "ready", False, f"{status.state or 'starting'}, {workers}"


def _job(status: Status) -> tuple[bool, bool, str]:
    pods = {role: s.active for role, s in status.replicaStatuses.items()}
    active = ", ".join(f"{n} {role.lower()}" for role, n in sorted(pods.items())) or "no pods yet"
    if status.condition("Running") and pods.get("Launcher", 0) > 0:
        return True, False, f"running, {active}"  # whatever it had failed of before
    failed = status.condition("Failed")
    if failed:
        return False, True, f"failed: {failed.message or failed.reason}"
    if status.condition("Succeeded"):
        return False, True, "ended: an LLM service should never end"
    if status.condition("Suspended"):
        return False, False, "suspended, no pods"
    return False, False, f"starting, {active}"
