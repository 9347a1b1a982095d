"""Every pod template in rendered manifests, also inside RayService, RayCluster and MPIJob."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import yaml

from kuberay.errors import ManifestError
from kuberay.placement import GPU, Pod, Requirement, Side, parse_toleration
from kuberay.quantity import parse_quantity

SIDE_LABEL = "isthmus.dev/side"

Manifest = Mapping[str, Any]

_AUTOSCALER = {"requests": {"cpu": "500m", "memory": "512Mi"}}
"""KubeRay's default for the autoscaler container, `autoscaler.go` in ray-project/kuberay."""


def load_manifests(text: str, origin: str) -> list[Manifest]:
    """Parse a stream of YAML documents, unfolding `List` objects.

    Raises:
        ManifestError: the text is not YAML, or a document is no Kubernetes object.
    """
    try:
        documents = [d for d in yaml.safe_load_all(text) if d is not None]
    except yaml.YAMLError as error:
        raise ManifestError(f"{origin} is not YAML: {error}") from error
    found: list[Manifest] = []
    for document in documents:
        if not isinstance(document, dict) or "kind" not in document:
            raise ManifestError(
                f"{origin} holds a document without `kind`; give rendered manifests."
            )
        found.extend(document["items"] if document["kind"] == "List" else [document])
    return found


def pods_of(manifests: Iterable[Manifest]) -> list[Pod]:
    """Return the pods that the manifests would start.

    Raises:
        ManifestError: a template uses what the placement proof cannot judge.
    """
    return [pod for manifest in manifests for pod in _pods_of_one(manifest)]


def templates_of(manifest: Manifest) -> Iterator[tuple[str, Manifest, Manifest]]:
    """Yield (role, pod template, enclosing group spec) of one object."""
    spec = manifest.get("spec") or {}
    match manifest["kind"]:
        case "Pod":
            yield "", manifest, {}
        case "Deployment" | "StatefulSet" | "DaemonSet" | "Job" | "ReplicaSet":
            yield "", spec["template"], {}
        case "CronJob":
            yield "", spec["jobTemplate"]["spec"]["template"], {}
        case "RayCluster":
            yield from _ray_groups(spec)
        case "RayService":
            yield from _ray_groups(spec["rayClusterConfig"])
        case "RayJob" if "rayClusterSpec" in spec:
            yield from _ray_groups(spec["rayClusterSpec"])
        case "MPIJob":
            for role, replica in spec["mpiReplicaSpecs"].items():
                yield role.lower(), replica["template"], {}


def _ray_groups(cluster: Manifest) -> Iterator[tuple[str, Manifest, Manifest]]:
    head = cluster["headGroupSpec"]
    yield "head", head["template"], head
    for group in cluster.get("workerGroupSpecs") or ():
        yield f"workers {group['groupName']}", group["template"], group


def _pods_of_one(manifest: Manifest) -> Iterator[Pod]:
    name = f"{manifest['kind']}/{(manifest.get('metadata') or {}).get('name', '?')}"
    for role, template, group in templates_of(manifest):
        owner = f"{name} {role}".rstrip()
        try:
            pod = _pod(owner, _side(manifest, template), template["spec"], group)
            yield replace(pod, requests=_added(pod.requests, _sidecar(manifest, role)))
        except (KeyError, TypeError, AttributeError) as error:
            raise ManifestError(f"{owner}: the pod template lacks or misshapes {error}.") from error


def _sidecar(manifest: Manifest, role: str) -> dict[str, Decimal]:
    """Return what the autoscaler asks for, which KubeRay puts into the head pod."""
    spec = manifest.get("spec") or {}
    cluster = spec.get("rayClusterConfig") or spec.get("rayClusterSpec") or spec
    if role != "head" or not cluster.get("enableInTreeAutoscaling"):
        return {}
    resources = (cluster.get("autoscalerOptions") or {}).get("resources")
    return _container({"resources": resources or _AUTOSCALER})


def _added(one: Mapping[str, Decimal], other: Mapping[str, Decimal]) -> dict[str, Decimal]:
    zero = Decimal(0)
    return {name: one.get(name, zero) + other.get(name, zero) for name in {**one, **other}}


def _side(manifest: Manifest, template: Manifest) -> Side:
    if manifest["kind"].startswith("Ray"):
        return "ray"
    labels = (template.get("metadata") or {}).get("labels") or {}
    if manifest["kind"] == "MPIJob" or labels.get(SIDE_LABEL) == "llm":
        return "llm"
    return "other"


def _pod(owner: str, side: Side, spec: Manifest, group: Manifest) -> Pod:
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    return Pod(
        owner=owner,
        side=side,
        requests=requests_of(spec),
        tolerations=tuple(parse_toleration(t) for t in spec.get("tolerations") or ()),
        node_selector=dict(spec.get("nodeSelector") or {}),
        required_terms=_required(owner, affinity),
        preferred=_preferred(affinity),
        node_name=spec.get("nodeName") or "",
        advertised_gpus=_advertises_gpus(group),
    )


def _required(owner: str, affinity: Manifest) -> tuple[tuple[Requirement, ...], ...] | None:
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is None:
        return None
    terms = required["nodeSelectorTerms"]
    if any(term.get("matchFields") for term in terms):
        raise ManifestError(
            f"{owner}: affinity by matchFields names single nodes, which no node pool has; "
            "use matchExpressions."
        )
    return tuple(_requirements(term) for term in terms)


def _preferred(affinity: Manifest) -> tuple[Requirement, ...]:
    terms = affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
    return tuple(r for term in terms for r in _requirements(term["preference"]))


def _requirements(term: Manifest) -> tuple[Requirement, ...]:
    return tuple(
        Requirement(e["key"], e["operator"], tuple(map(str, e.get("values") or ())))
        for e in term.get("matchExpressions") or ()
    )


def requests_of(spec: Manifest) -> dict[str, Decimal]:
    """Return what the scheduler reserves for a pod: the containers' sum, or the largest init.

    Init containers with `restartPolicy: Always` are sidecars and count with the containers.
    """
    inits = spec.get("initContainers") or ()
    sidecars = [c for c in inits if c.get("restartPolicy") == "Always"]
    total: dict[str, Decimal] = {}
    for container in (*spec["containers"], *sidecars):
        for resource, amount in _container(container).items():
            total[resource] = total.get(resource, Decimal(0)) + amount
    for init in inits:
        for resource, amount in _container(init).items():
            total[resource] = max(total.get(resource, Decimal(0)), amount)
    return total


def _container(container: Manifest) -> dict[str, Decimal]:
    resources = container.get("resources") or {}
    merged = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    return {name: parse_quantity(amount) for name, amount in merged.items()}


def _advertises_gpus(group: Manifest) -> bool:
    params = group.get("rayStartParams") or {}
    resources = group.get("resources") or {}
    counts = (params.get("num-gpus", "0"), resources.get("GPU", "0"), resources.get(GPU, "0"))
    return any(parse_quantity(count) > 0 for count in counts)
