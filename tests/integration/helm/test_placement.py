"""The placement proof over real renders, and every weakening of them caught."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from kuberay.pods import pods_of, templates_of
from kuberay.pools import pools_from_values
from kuberay.proof import Proof, prove
from tests.support import chart

Manifests = list[dict[str, Any]]
Pools = list[dict[str, Any]]
Mutation = Callable[[Manifests, Pools], None]

TOLERATION = {"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"}


def sound(case: str) -> tuple[Manifests, Pools]:
    file, values = chart.MATRIX[case]
    base = yaml.safe_load((chart.CHART / "values.yaml").read_text())
    chosen = yaml.safe_load((chart.CHART / file).read_text())
    pools = values.get("nodePools") or chosen.get("nodePools") or base["nodePools"]
    if case == "ranks-on-hosts":
        pools = [p | {"vmSize": "Standard_ND96asr_v4"} if p["role"] == "gpu" else p for p in pools]
    manifests = [m for m in copy.deepcopy(chart.rendered(case)) if not _rdma(m)]
    return manifests, copy.deepcopy(pools)


def _rdma(manifest: dict[str, Any]) -> bool:
    """RDMA devices come from a device plugin, which a VM size does not tell of."""
    for _, template, _ in templates_of(manifest):
        for container in template["spec"]["containers"]:
            container["resources"]["limits"].pop("rdma/hca_shared_devices_a", None)
    return False


def proof_of(manifests: Manifests, pools: Pools) -> Proof:
    return prove(pods_of(manifests), pools_from_values({"nodePools": pools}, "test"))


@pytest.mark.parametrize("case", chart.MATRIX)
def test_every_case_is_isolated(case: str) -> None:
    assert proof_of(*sound(case)).findings == ()


def templates(manifests: Manifests, kind: str) -> list[dict[str, Any]]:
    return [dict(t)["spec"] for m in manifests if m["kind"] == kind for _, t, _ in templates_of(m)]


def gpu_pools(pools: Pools) -> Pools:
    return [p for p in pools if p["role"] == "gpu"]


def terms(pod: dict[str, Any]) -> list[dict[str, Any]]:
    required = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    found: list[dict[str, Any]] = required["nodeSelectorTerms"]
    return found


def ray_tolerates(manifests: Manifests, pools: Pools) -> None:
    templates(manifests, "RayService")[1]["tolerations"] = [TOLERATION]


def ray_tolerates_everything(manifests: Manifests, pools: Pools) -> None:
    templates(manifests, "RayService")[0]["tolerations"] = [{"operator": "Exists"}]


def ray_loses_affinity(manifests: Manifests, pools: Pools) -> None:
    del templates(manifests, "RayService")[1]["affinity"]


def ray_only_prefers(manifests: Manifests, pools: Pools) -> None:
    node = templates(manifests, "RayService")[1]["affinity"]["nodeAffinity"]
    (term,) = node.pop("requiredDuringSchedulingIgnoredDuringExecution")["nodeSelectorTerms"]
    node["preferredDuringSchedulingIgnoredDuringExecution"] = [{"weight": 1, "preference": term}]


def ray_accepts_another_term(manifests: Manifests, pools: Pools) -> None:
    anywhere = {"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]}
    terms(templates(manifests, "RayService")[0]).append({"matchExpressions": [anywhere]})


def ray_accepts_the_gpu_pool(manifests: Manifests, pools: Pools) -> None:
    expression = terms(templates(manifests, "RayService")[0])[0]["matchExpressions"][0]
    expression["values"].append("gpu")


def ray_claims_a_gpu(manifests: Manifests, pools: Pools) -> None:
    (container,) = templates(manifests, "RayService")[1]["containers"]
    container["resources"]["limits"]["nvidia.com/gpu"] = 1


def ray_advertises_a_gpu(manifests: Manifests, pools: Pools) -> None:
    service = next(m for m in manifests if m["kind"] == "RayService")
    group = service["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]
    group["rayStartParams"]["num-gpus"] = "1"


def ray_names_a_node(manifests: Manifests, pools: Pools) -> None:
    templates(manifests, "RayService")[0]["nodeName"] = "aks-gpu-0"


def ray_outgrows_its_nodes(manifests: Manifests, pools: Pools) -> None:
    (container,) = templates(manifests, "RayService")[1]["containers"]
    container["resources"]["requests"]["memory"] = "900Gi"


def pool_loses_taint(manifests: Manifests, pools: Pools) -> None:
    gpu_pools(pools)[0]["taints"] = []


def pool_taint_goes_soft(manifests: Manifests, pools: Pools) -> None:
    gpu_pools(pools)[0]["taints"] = ["sku=gpu:PreferNoSchedule"]


def pool_is_labelled_cpu(manifests: Manifests, pools: Pools) -> None:
    gpu_pools(pools)[0]["labels"] = {"isthmus.dev/pool": "cpu"}


def llm_loses_toleration(manifests: Manifests, pools: Pools) -> None:
    del templates(manifests, "MPIJob")[0]["tolerations"]


def llm_tolerates_something_else(manifests: Manifests, pools: Pools) -> None:
    templates(manifests, "MPIJob")[0]["tolerations"][0]["value"] = "cpu"


def llm_loses_affinity(manifests: Manifests, pools: Pools) -> None:
    del templates(manifests, "MPIJob")[0]["affinity"]


def llm_claims_no_gpu(manifests: Manifests, pools: Pools) -> None:
    (container,) = templates(manifests, "MPIJob")[0]["containers"]
    del container["resources"]["limits"]["nvidia.com/gpu"]


def llm_claims_too_many_gpus(manifests: Manifests, pools: Pools) -> None:
    (container,) = templates(manifests, "MPIJob")[0]["containers"]
    container["resources"]["limits"]["nvidia.com/gpu"] = 16


def job_goes_anywhere(manifests: Manifests, pools: Pools) -> None:
    pod = templates(manifests, "Pod")[0]
    pod["tolerations"] = [{"operator": "Exists"}]
    del pod["affinity"]


def spot_is_not_tolerated(manifests: Manifests, pools: Pools) -> None:
    del templates(manifests, "MPIJob")[0]["tolerations"][1]


def spot_is_required(manifests: Manifests, pools: Pools) -> None:
    spot = {"key": "kubernetes.azure.com/scalesetpriority", "operator": "In", "values": ["spot"]}
    terms(templates(manifests, "MPIJob")[0])[0]["matchExpressions"].append(spot)


WEAKENINGS: dict[Mutation, str] = {
    ray_tolerates: "taint layer is missing",
    ray_tolerates_everything: "taint layer is missing",
    ray_loses_affinity: "affinity layer is missing",
    ray_only_prefers: "affinity layer is missing",
    ray_accepts_another_term: "affinity layer is missing",
    ray_accepts_the_gpu_pool: "affinity layer is missing",
    ray_claims_a_gpu: "claims a GPU",
    ray_advertises_a_gpu: "claims a GPU",
    ray_names_a_node: "bypasses the scheduler",
    ray_outgrows_its_nodes: "can land nowhere",
    pool_loses_taint: "taint layer is missing",
    pool_taint_goes_soft: "taint layer is missing",
    pool_is_labelled_cpu: "affinity layer is missing",
    llm_loses_toleration: "can land nowhere",
    llm_tolerates_something_else: "can land nowhere",
    llm_loses_affinity: "no affinity keeps it out",
    llm_claims_no_gpu: "claims no GPU",
    llm_claims_too_many_gpus: "can land nowhere",
    job_goes_anywhere: "can land in GPU pool",
    spot_is_not_tolerated: "prefers spot nodes but cannot land on any",
    spot_is_required: "no fallback",
}


@pytest.mark.parametrize("weaken", WEAKENINGS, ids=lambda m: m.__name__)
def test_every_weakening_is_caught(weaken: Mutation) -> None:
    manifests, pools = sound("spot")
    weaken(manifests, pools)
    assert WEAKENINGS[weaken] in "\n".join(proof_of(manifests, pools).findings)


@pytest.mark.parametrize(
    "weaken", [ray_tolerates, ray_loses_affinity, pool_loses_taint], ids=lambda m: m.__name__
)
def test_losing_one_layer_is_still_safe(weaken: Mutation) -> None:
    """The proof names the missing layer, and yet no Ray pod can reach a GPU node."""
    manifests, pools = sound("spot")
    weaken(manifests, pools)
    verdicts = proof_of(manifests, pools).verdicts
    assert not any(v.lands for v in verdicts if v.pod.side == "ray" and v.pool.role == "gpu")


def test_losing_both_layers_is_not() -> None:
    manifests, pools = sound("spot")
    ray_tolerates(manifests, pools)
    ray_loses_affinity(manifests, pools)
    assert "can land in GPU pool gpu" in "\n".join(proof_of(manifests, pools).findings)
