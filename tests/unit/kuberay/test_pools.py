"""Node pools from values and from Terraform's JSON."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from kuberay.errors import ManifestError, UnknownVmSizeError
from kuberay.placement import GPU
from kuberay.pools import SPOT_TAINT, pools_from_file, pools_from_terraform, pools_from_values
from kuberay.vm_sizes import allocatable, reserved_cpu

GPU_POOL = {
    "name": "gpu",
    "role": "gpu",
    "taints": ["sku=gpu:NoSchedule"],
    "vmSize": "Standard_NC24ads_A100_v4",
}


def aks(name: str, **values: Any) -> dict[str, Any]:
    defaults = {"name": name, "vm_size": "Standard_D4s_v5", "node_labels": {"a": "b"}}
    return {"type": "azurerm_kubernetes_cluster_node_pool", "values": defaults | values}


def plan(*resources: dict[str, Any]) -> dict[str, Any]:
    return {"planned_values": {"root_module": {"child_modules": [{"resources": [*resources]}]}}}


def test_values_with_a_vm_size_get_its_capacity() -> None:
    (pool,) = pools_from_values({"nodePools": [GPU_POOL]}, "values.yaml")
    assert pool.allocatable[GPU] == 1
    assert str(pool.taints[0]) == "sku=gpu:NoSchedule"


def test_values_with_a_capacity_keep_it() -> None:
    entry = {"name": "c", "role": "cpu", "capacity": {"cpu": "3500m"}}
    (pool,) = pools_from_values({"nodePools": [entry]}, "values.yaml")
    assert pool.allocatable == {"cpu": Decimal("3.5")}


def test_spot_nodes_get_the_taint_and_label_that_aks_adds() -> None:
    (pool,) = pools_from_values({"nodePools": [GPU_POOL | {"spot": True}]}, "values.yaml")
    assert SPOT_TAINT in pool.taints
    assert pool.labels[SPOT_TAINT.key] == "spot"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "has no list `nodePools`"),
        ({"nodePools": []}, "has no list `nodePools`"),
        ({"nodePools": [GPU_POOL | {"tains": []}]}, r"nodePools\[0\]\.tains"),
        ({"nodePools": [GPU_POOL | {"capacity": {"cpu": 1}}]}, "either vmSize or capacity"),
        ({"nodePools": [GPU_POOL | {"role": "tpu"}]}, r"nodePools\[0\]\.role"),
    ],
)
def test_misshapen_values_are_named(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        pools_from_values(values, "values.yaml")


def test_an_unknown_vm_size_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownVmSizeError, match=r"Standard_Z9.*Standard_D4s_v5"):
        allocatable("Standard_Z9")


def test_terraform_pools_are_read_with_roles() -> None:
    default = {"name": "system", "vm_size": "Standard_D4s_v5", "only_critical_addons_enabled": True}
    cluster = {"type": "azurerm_kubernetes_cluster", "values": {"default_node_pool": [default]}}
    gpu = aks(
        "gpuspot",
        vm_size="Standard_NC24ads_A100_v4",
        priority="Spot",
        node_taints=["sku=gpu:NoSchedule"],
    )
    system, cpu, spot = pools_from_terraform(plan(cluster, aks("cpu"), gpu), "plan.json")
    assert (system.role, cpu.role, spot.role) == ("system", "cpu", "gpu")
    assert str(system.taints[0]) == "CriticalAddonsOnly=true:NoSchedule"
    assert cpu.labels["a"] == "b"
    assert [str(t) for t in spot.taints] == ["sku=gpu:NoSchedule", str(SPOT_TAINT)]


def test_a_state_is_read_like_a_plan() -> None:
    state = {"values": {"root_module": {"resources": [aks("cpu")]}}}
    assert [p.name for p in pools_from_terraform(state, "state.json")] == ["cpu"]


def test_a_plan_without_pools_is_refused() -> None:
    with pytest.raises(ManifestError, match="plans no AKS node pool"):
        pools_from_terraform(plan(), "plan.json")


def test_the_file_decides_between_values_and_terraform(tmp_path: Path) -> None:
    values, shown = tmp_path / "values.yaml", tmp_path / "plan.json"
    values.write_text(json.dumps({"nodePools": [GPU_POOL]}))
    shown.write_text(json.dumps(plan(aks("cpu"))))
    assert [p.name for p in pools_from_file(values)] == ["gpu"]
    assert [p.name for p in pools_from_file(shown)] == ["cpu"]


@pytest.mark.parametrize("content", [None, "a: [", "[]", "- 1"])
def test_an_unreadable_file_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "values.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ManifestError, match=r"values\.yaml"):
        pools_from_file(path)


@pytest.mark.parametrize(("cores", "millis"), [(1, 60), (2, 100), (4, 140), (16, 260), (64, 740)])
def test_reserved_cpu_is_the_published_table(cores: int, millis: int) -> None:
    assert reserved_cpu(cores) * 1000 == millis
