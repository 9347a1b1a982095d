"""Node pools from a chart's values or from `terraform show -json`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kuberay.errors import ManifestError
from kuberay.placement import GPU, NodePool, PoolRole, Taint, parse_taint
from kuberay.quantity import parse_quantity
from kuberay.vm_sizes import allocatable

SPOT_TAINT = Taint("kubernetes.azure.com/scalesetpriority", "spot", "NoSchedule")
"""AKS puts it on every spot node, whatever the pool's own taints are."""

_AKS_POOL = "azurerm_kubernetes_cluster_node_pool"
_AKS_CLUSTER = "azurerm_kubernetes_cluster"


class PoolValues(BaseModel):
    """One entry of `nodePools` in a values file. Either a VM size or a capacity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    role: PoolRole
    labels: dict[str, str] = Field(default_factory=dict)
    taints: list[str] = Field(default_factory=list)
    spot: bool = False
    vmSize: str = ""  # noqa: N815 - the values file's spelling
    capacity: dict[str, str | int] = Field(default_factory=dict)


def pools_from_file(path: Path) -> list[NodePool]:
    """Read pools from values (YAML) or a plan or state (JSON of `terraform show -json`).

    Raises:
        ManifestError: the file is missing, or holds no node pools.
    """
    try:
        text = path.read_text()
        document = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, ValueError, yaml.YAMLError) as error:
        raise ManifestError(f"Cannot read node pools from {path}: {error}") from error
    if not isinstance(document, dict):
        raise ManifestError(f"{path} is no mapping; give a values file or `terraform show -json`.")
    if "terraform_version" in document or "planned_values" in document:
        return pools_from_terraform(document, str(path))
    return pools_from_values(document, str(path))


def pools_from_values(values: Mapping[str, Any], origin: str) -> list[NodePool]:
    """Read the list `nodePools`.

    Raises:
        ManifestError: it is missing, empty, or an entry is misshapen.
    """
    raw = values.get("nodePools")
    if not isinstance(raw, list) or not raw:
        raise ManifestError(
            f"{origin} has no list `nodePools`; copy it from helm/isthmus/values.yaml, "
            "or give the JSON of `terraform show -json`."
        )
    return [_from_values(entry, f"{origin}: nodePools[{i}]") for i, entry in enumerate(raw)]


def _from_values(entry: Any, where: str) -> NodePool:
    try:
        pool = PoolValues.model_validate(entry)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "entry"
        raise ManifestError(f"{where}.{field}: {first['msg']}.") from error
    if bool(pool.vmSize) == bool(pool.capacity):
        raise ManifestError(f"{where} ({pool.name}): set either vmSize or capacity.")
    capacity = {name: parse_quantity(amount) for name, amount in pool.capacity.items()}
    return _pool(
        name=pool.name,
        role=pool.role,
        labels=pool.labels,
        taints=pool.taints,
        spot=pool.spot,
        capacity=capacity or allocatable(pool.vmSize),
    )


def pools_from_terraform(document: Mapping[str, Any], origin: str) -> list[NodePool]:
    """Read AKS node pools out of a plan's planned values or a state's values.

    Raises:
        ManifestError: there is no AKS node pool in it.
    """
    root = (document.get("planned_values") or document.get("values") or {}).get("root_module") or {}
    pools = [pool for resource in _resources(root) for pool in _aks_pools(resource)]
    if not pools:
        raise ManifestError(
            f"{origin} plans no AKS node pool; give the JSON of `terraform show -json PLAN`."
        )
    return pools


def _resources(module: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from module.get("resources") or ()
    for child in module.get("child_modules") or ():
        yield from _resources(child)


def _aks_pools(resource: Mapping[str, Any]) -> Iterator[NodePool]:
    values = resource.get("values") or {}
    if resource.get("type") == _AKS_POOL:
        yield _from_aks(values)
    elif resource.get("type") == _AKS_CLUSTER:
        for default in values.get("default_node_pool") or ():
            yield _from_aks({**default, "mode": "System"}, critical=default)


def _from_aks(values: Mapping[str, Any], critical: Mapping[str, Any] | None = None) -> NodePool:
    capacity = allocatable(values["vm_size"], values.get("max_pods") or 110)
    only_critical = bool(critical and critical.get("only_critical_addons_enabled"))
    role: PoolRole = "gpu" if GPU in capacity else "cpu"
    return _pool(
        name=values["name"],
        role="system" if values.get("mode") == "System" else role,
        labels=values.get("node_labels") or {},
        taints=[
            *(values.get("node_taints") or ()),
            *(["CriticalAddonsOnly=true:NoSchedule"] if only_critical else []),
        ],
        spot=values.get("priority") == "Spot",
        capacity=capacity,
    )


def _pool(
    *,
    name: str,
    role: PoolRole,
    labels: Mapping[str, str],
    taints: list[str],
    spot: bool,
    capacity: Mapping[str, Any],
) -> NodePool:
    """Add what AKS adds by itself: the spot taint and its well-known labels."""
    own = tuple(parse_taint(t) for t in taints)
    implied = (SPOT_TAINT,) if spot and SPOT_TAINT not in own else ()
    known = {
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "agentpool": name,
        "kubernetes.azure.com/agentpool": name,
        **({SPOT_TAINT.key: SPOT_TAINT.value} if spot else {}),
    }
    return NodePool(name, role, {**known, **labels}, own + implied, dict(capacity), spot)
