"""Changes to objects, each a pure function of the object as it was read.

`Cluster.replace` writes the result back under optimistic concurrency: `retry_conflicts` reads again
and changes again when somebody else was faster, so that no other change is ever lost.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml

from kuberay.client import Cluster
from kuberay.errors import ConflictError, ManifestError
from kuberay.models import Kind, Object

PREVIOUS = "isthmus.dev/previous-spec"
"""Annotation: the spec before the last `isthmus cluster` change, for `rollback`."""

_ATTEMPTS = 5

Change = Callable[[dict[str, Any]], None]


def retry_conflicts(cluster: Cluster, kind: Kind, name: str, change: Change) -> Object:
    """Read, change and write an object until nobody interferes.

    Raises:
        ConflictError: somebody changed it each time.
        ApiError: the server refused, or was not there.
    """
    for attempt in range(_ATTEMPTS):
        found = cluster.get(kind, name)
        changed = copy.deepcopy(dict(found))
        change(changed)
        if changed == found:
            return found
        try:
            return cluster.replace(changed)
        except ConflictError:
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def remember(found: dict[str, Any]) -> None:
    """Note the present spec in the object, for `restore`."""
    found["metadata"].setdefault("annotations", {}).update(memory_of(found))


def memory_of(found: Object) -> dict[str, str]:
    """Return the annotation that holds an object's present spec."""
    return {PREVIOUS: json.dumps(found["spec"], separators=(",", ":"), sort_keys=True)}


def restore(found: dict[str, Any]) -> None:
    """Swap the present spec with the one remembered.

    Raises:
        ManifestError: none is remembered.
    """
    text = (found["metadata"].get("annotations") or {}).get(PREVIOUS)
    if text is None:
        raise ManifestError(
            f"{found['kind']} {found['metadata']['name']} has no earlier spec: only changes made "
            "by `isthmus cluster` are remembered. Use `helm rollback` for Helm's."
        )
    remember(found)
    found["spec"] = json.loads(text)


def bounds(low: int | None, high: int | None, old_low: int, old_high: int) -> tuple[int, int]:
    """Return new bounds where None keeps the old one.

    Raises:
        ManifestError: they are negative, or cross.
    """
    new = (old_low if low is None else low, old_high if high is None else high)
    if not 0 <= new[0] <= new[1] or new[1] < 1:
        raise ManifestError(
            f"min {new[0]} and max {new[1]} cannot be: 0 <= min <= max and max >= 1. "
            f"They were {old_low} and {old_high}; give both."
        )
    return new


def scale_group(group: str, low: int | None, high: int | None) -> Change:
    """Return a change of a Ray worker group's `minReplicas` and `maxReplicas`."""

    def change(found: dict[str, Any]) -> None:
        entry = _named(cluster_spec(found).get("workerGroupSpecs") or (), "groupName", group, found)
        new_low, new_high = bounds(low, high, entry["minReplicas"], entry["maxReplicas"])
        if (new_low, new_high) != (entry["minReplicas"], entry["maxReplicas"]):
            remember(found)
            entry["minReplicas"], entry["maxReplicas"] = new_low, new_high

    return change


def scale_deployment(deployment: str, low: int | None, high: int | None) -> Change:
    """Return a change of a Serve deployment's autoscaling bounds, inside `serveConfigV2`."""

    def change(found: dict[str, Any]) -> None:
        config = yaml.safe_load(found["spec"].get("serveConfigV2") or "{}")
        every = [d for a in config.get("applications", ()) for d in a.get("deployments", ())]
        entry = _named(every, "name", deployment, found)
        scaling = entry.setdefault("autoscaling_config", {})
        old = (scaling.get("min_replicas", 1), scaling.get("max_replicas", 1))
        new = bounds(low, high, *old)
        if new != old:
            remember(found)
            scaling["min_replicas"], scaling["max_replicas"] = new
            found["spec"]["serveConfigV2"] = yaml.safe_dump(config, sort_keys=False)

    return change


def suspend(value: bool) -> Change:
    """Return a change that frees an MPIJob's pods, or brings them back."""

    def change(found: dict[str, Any]) -> None:
        found["spec"].setdefault("runPolicy", {})["suspend"] = value

    return change


def cluster_spec(found: Object) -> dict[str, Any]:
    """Return the Ray cluster's part of a RayService or RayCluster."""
    spec: dict[str, Any] = found["spec"]
    inner: dict[str, Any] = spec.get("rayClusterConfig", spec)
    return inner


def _named(
    entries: Sequence[dict[str, Any]], key: str, name: str, found: Mapping[str, Any]
) -> dict[str, Any]:
    for entry in entries:
        if entry[key] == name:
            return entry
    known = ", ".join(entry[key] for entry in entries) or "none"
    raise ManifestError(
        f"{found['kind']} {found['metadata']['name']} has no {name!r}; it has {known}."
    )
