"""Where the Kubernetes scheduler may put a pod: its hard filters, applied to node pools.

A pool stands for every node that the cluster autoscaler could make in it, so "may land" here means
"could be scheduled on an empty node of that pool". The filters are the scheduler's own
(`NodeName`, `TaintToleration`, `NodeAffinity`, `NodeResourcesFit`), restated from
https://kubernetes.io/docs/concepts/scheduling-eviction/; soft preferences never exclude a node and
are therefore no filters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any, Literal

from kuberay.errors import ManifestError
from kuberay.quantity import format_quantity

GPU = "nvidia.com/gpu"

PoolRole = Literal["system", "cpu", "gpu"]
Side = Literal["ray", "llm", "other"]


@dataclass(frozen=True)
class Taint:
    """A node's taint."""

    key: str
    value: str
    effect: str

    def __str__(self) -> str:
        return f"{self.key}={self.value}:{self.effect}"


@dataclass(frozen=True)
class Toleration:
    """A pod's toleration; empty `key`, `value` and `effect` mean "any"."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""

    def tolerates(self, taint: Taint) -> bool:
        """Whether this toleration lets a pod onto a node with `taint`."""
        if self.effect not in ("", taint.effect):
            return False
        if self.operator == "Exists":
            return self.key in ("", taint.key)
        return self.key == taint.key and self.value == taint.value


@dataclass(frozen=True)
class Requirement:
    """One `matchExpressions` entry of a node selector term."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.key} {self.operator} {','.join(self.values)}".rstrip()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether labels fulfil this requirement.

        Raises:
            ManifestError: the operator is none of Kubernetes'.
        """
        have = labels.get(self.key)
        match self.operator:
            case "In":
                return have in self.values
            case "NotIn":
                return have not in self.values
            case "Exists":
                return have is not None
            case "DoesNotExist":
                return have is None
            case "Gt" | "Lt":
                return self._compares(have)
        raise ManifestError(f"Node affinity has no operator {self.operator!r}.")

    def _compares(self, have: str | None) -> bool:
        if have is None or not have.lstrip("-").isdigit():
            return False
        bound = int(self.values[0])
        return int(have) > bound if self.operator == "Gt" else int(have) < bound


@dataclass(frozen=True)
class NodePool:
    """Nodes that are alike: what `az aks nodepool` or a Terraform resource describes.

    `allocatable` is in base units (cores, bytes, pieces), after the kubelet's reservations.
    """

    name: str
    role: PoolRole
    labels: Mapping[str, str]
    taints: tuple[Taint, ...]
    allocatable: Mapping[str, Decimal]
    spot: bool = False


@dataclass(frozen=True)
class Pod:
    """What the scheduler reads of a pod template.

    `required_terms` is None when the template sets no required node affinity. `advertised_gpus` is
    what a Ray start parameter or group resource claims, whatever the containers request.
    """

    owner: str
    side: Side
    requests: Mapping[str, Decimal]
    tolerations: tuple[Toleration, ...] = ()
    node_selector: Mapping[str, str] | None = None
    required_terms: tuple[tuple[Requirement, ...], ...] | None = None
    preferred: tuple[Requirement, ...] = ()
    node_name: str = ""
    advertised_gpus: bool = False


class Layer(StrEnum):
    """The reason for which a pod cannot land somewhere."""

    TAINT = "taint"
    AFFINITY = "affinity"
    RESOURCES = "resources"


@dataclass(frozen=True)
class Verdict:
    """Whether one pod may land in one pool, and every reason why not."""

    pod: Pod
    pool: NodePool
    blocked_by: Mapping[Layer, str]

    @property
    def lands(self) -> bool:
        """Whether no filter excludes the pool."""
        return not self.blocked_by


def judge(pod: Pod, pool: NodePool) -> Verdict:
    """Apply every filter to one pod and one pool."""
    reasons = {
        Layer.TAINT: untolerated(pod, pool),
        Layer.AFFINITY: unmatched(pod, pool),
        Layer.RESOURCES: unfitting(pod, pool),
    }
    return Verdict(pod, pool, {layer: why for layer, why in reasons.items() if why})


def judge_all(pods: Iterable[Pod], pools: Iterable[NodePool]) -> list[Verdict]:
    """Judge every pod against every pool, in the order given."""
    pools = list(pools)
    return [judge(pod, pool) for pod in pods for pool in pools]


def untolerated(pod: Pod, pool: NodePool) -> str:
    """Filter `TaintToleration`: the first hard taint that the pod does not tolerate, or ''."""
    for taint in pool.taints:
        hard = taint.effect in ("NoSchedule", "NoExecute")
        if hard and not any(t.tolerates(taint) for t in pod.tolerations):
            return f"taint {taint}"
    return ""


def unmatched(pod: Pod, pool: NodePool) -> str:
    """Filter `NodeAffinity`: the node selector or required term that the pool fails, or ''."""
    for key, value in (pod.node_selector or {}).items():
        if pool.labels.get(key) != value:
            return f"requires label {key}={value}"
    if pod.required_terms is None or any(_term(t, pool.labels) for t in pod.required_terms):
        return ""
    wanted = " or ".join("; ".join(map(str, term)) or "nothing" for term in pod.required_terms)
    return f"requires {wanted or 'nothing'}"


def _term(term: tuple[Requirement, ...], labels: Mapping[str, str]) -> bool:
    return bool(term) and all(r.matches(labels) for r in term)  # an empty term matches no node


def unfitting(pod: Pod, pool: NodePool) -> str:
    """Filter `NodeResourcesFit`: the first resource that an empty node lacks, or ''."""
    for resource, wanted in pod.requests.items():
        have = pool.allocatable.get(resource, Decimal(0))
        if wanted > have:
            amounts = f"{format_quantity(resource, wanted)} > {format_quantity(resource, have)}"
            return f"{resource} {amounts}"
    return ""


def parse_taint(text: str) -> Taint:
    """Read a taint as AKS writes it: `key=value:Effect`.

    Raises:
        ManifestError: the text has another form.
    """
    body, _, effect = text.rpartition(":")
    key, _, value = body.partition("=")
    if not key or effect not in ("NoSchedule", "NoExecute", "PreferNoSchedule"):
        raise ManifestError(
            f"Taint {text!r} is not key=value:Effect; effects are NoSchedule, NoExecute and "
            "PreferNoSchedule."
        )
    return Taint(key, value, effect)


def parse_toleration(raw: Mapping[str, Any]) -> Toleration:
    """Read one entry of `spec.tolerations`."""
    return Toleration(
        key=raw.get("key") or "",
        operator=raw.get("operator") or "Equal",
        value=str(raw.get("value") or ""),
        effect=raw.get("effect") or "",
    )
