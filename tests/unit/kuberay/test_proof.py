"""Each promise of isolation, and the fault that breaks it."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from kuberay.errors import ManifestError
from kuberay.placement import GPU, NodePool, Pod, Requirement, Taint, Toleration
from kuberay.pools import SPOT_TAINT
from kuberay.proof import prove

LABEL = "isthmus.dev/pool"
SKU = Taint("sku", "gpu", "NoSchedule")
SKU_OK = Toleration("sku", "Equal", "gpu", "NoSchedule")
SPOT_OK = Toleration(SPOT_TAINT.key, "Equal", "spot", "NoSchedule")
SPOT_LABEL = Requirement(SPOT_TAINT.key, "In", ("spot",))
ROOM = {"cpu": Decimal(16)}

CPU_POOL = NodePool("cpu", "cpu", {LABEL: "cpu"}, (), ROOM)
GPU_POOL = NodePool("gpu", "gpu", {LABEL: "gpu"}, (SKU,), ROOM | {GPU: Decimal(2)})
SPOT_POOL = NodePool(
    "gpuspot",
    "gpu",
    {LABEL: "gpu", SPOT_TAINT.key: "spot"},
    (SKU, SPOT_TAINT),
    ROOM | {GPU: Decimal(2)},
    spot=True,
)
POOLS = [CPU_POOL, GPU_POOL, SPOT_POOL]
RAY = Pod(
    "RayService/x head",
    "ray",
    {"cpu": Decimal(2)},
    required_terms=((Requirement(LABEL, "In", ("cpu",)),),),
)
LLM = Pod(
    "MPIJob/x worker",
    "llm",
    {GPU: Decimal(1)},
    tolerations=(SKU_OK, SPOT_OK),
    required_terms=((Requirement(LABEL, "In", ("gpu",)),),),
    preferred=(SPOT_LABEL,),
)


def findings(pods: list[Pod], pools: list[NodePool] = POOLS) -> str:
    return "\n".join(prove(pods, pools).findings)


def test_the_sound_system_is_proven() -> None:
    proof = prove([RAY, LLM], POOLS)
    assert proof.findings == ()
    assert proof.holds
    landing = {(v.pod.side, v.pool.name) for v in proof.verdicts if v.lands}
    assert landing == {("ray", "cpu"), ("llm", "gpu"), ("llm", "gpuspot")}


def test_a_tolerating_ray_pod_loses_the_taint_layer() -> None:
    tolerant = replace(RAY, tolerations=(SKU_OK,))
    assert "taint layer is missing towards GPU pool gpu " in findings([tolerant, LLM])


def test_an_untainted_gpu_pool_loses_the_taint_layer() -> None:
    found = findings([RAY, LLM], [CPU_POOL, replace(GPU_POOL, taints=())])
    assert "GPU pool gpu carries no taint of its own" in found
    assert "taint layer is missing" in found


def test_spots_own_taint_is_not_taken_for_ours() -> None:
    bare = replace(SPOT_POOL, taints=(SPOT_TAINT,))
    assert "GPU pool gpuspot carries no taint of its own" in findings([RAY, LLM], [*POOLS, bare])


def test_a_soft_taint_is_no_layer() -> None:
    soft = replace(GPU_POOL, taints=(Taint("sku", "gpu", "PreferNoSchedule"),))
    assert "taint layer is missing" in findings([RAY, LLM], [CPU_POOL, soft])


@pytest.mark.parametrize(
    "terms",
    [
        None,
        ((Requirement(LABEL, "Exists"),),),
        ((Requirement(LABEL, "In", ("cpu", "gpu")),),),
        (
            (Requirement(LABEL, "In", ("cpu",)),),
            (Requirement("kubernetes.io/os", "NotIn", ("x",)),),
        ),
    ],
)
def test_a_weaker_affinity_loses_the_affinity_layer(
    terms: tuple[tuple[Requirement, ...], ...] | None,
) -> None:
    assert "affinity layer is missing" in findings([replace(RAY, required_terms=terms), LLM])


def test_a_relabelled_gpu_pool_loses_the_affinity_layer() -> None:
    relabelled = replace(GPU_POOL, labels={LABEL: "cpu"})
    assert "affinity layer is missing" in findings([RAY, LLM], [CPU_POOL, relabelled])


def test_without_both_layers_the_pod_can_land() -> None:
    loose = replace(RAY, tolerations=(SKU_OK,), required_terms=None)
    assert "can land in GPU pool gpu: neither layer" in findings([loose, LLM])


def test_full_resources_are_not_mistaken_for_a_layer() -> None:
    large = replace(RAY, tolerations=(SKU_OK,), required_terms=None, requests={"cpu": Decimal(99)})
    found = findings([large, LLM])
    assert "taint layer is missing" in found
    assert "affinity layer is missing" in found


@pytest.mark.parametrize(
    "change", [{"requests": {GPU: Decimal(1)}}, {"advertised_gpus": True}], ids=str
)
def test_a_ray_pod_that_claims_a_gpu_is_caught(change: dict[str, object]) -> None:
    assert "claims a GPU" in findings([replace(RAY, **change), LLM])  # type: ignore[arg-type]


def test_a_fixed_node_is_caught() -> None:
    assert "bypasses the scheduler" in findings([replace(RAY, node_name="n1"), LLM])


def test_other_pods_need_one_layer_only() -> None:
    helper = Pod("Job/fill", "other", {}, required_terms=RAY.required_terms)
    assert findings([RAY, LLM, replace(helper, tolerations=(SKU_OK,))]) == ""
    loose = replace(helper, tolerations=(Toleration(operator="Exists"),), required_terms=None)
    assert "Job/fill can land in GPU pool gpu" in findings([RAY, LLM, loose])


def test_an_llm_rank_without_toleration_can_land_nowhere() -> None:
    found = findings([RAY, replace(LLM, tolerations=())])
    assert "MPIJob/x worker can land nowhere: gpu: taint sku=gpu:NoSchedule" in found


def test_an_llm_rank_that_wants_more_gpus_than_a_node_has_can_land_nowhere() -> None:
    assert "nvidia.com/gpu 4 > 2" in findings([RAY, replace(LLM, requests={GPU: Decimal(4)})])


def test_an_llm_rank_without_affinity_or_gpu_strays() -> None:
    assert "no affinity keeps it out of cpu" in findings([RAY, replace(LLM, required_terms=None)])
    large = {"cpu": Decimal(99)}  # too large for the CPU pool, and still no promise
    assert "MPIJob/x worker claims no GPU" in findings([RAY, replace(LLM, requests=large)])


def test_preferring_spot_without_tolerating_it_is_caught() -> None:
    found = findings([RAY, replace(LLM, tolerations=(SKU_OK,))])
    assert "prefers spot nodes but cannot land on any" in found


def test_requiring_spot_leaves_no_fallback() -> None:
    terms = ((Requirement(LABEL, "In", ("gpu",)), SPOT_LABEL),)
    assert "no fallback" in findings([RAY, replace(LLM, required_terms=terms)])


def test_a_ray_pod_with_nowhere_to_go_is_caught() -> None:
    found = findings([replace(RAY, requests={"cpu": Decimal(64)}), LLM])
    assert "RayService/x head can land nowhere: cpu: cpu 64 > 16" in found


@pytest.mark.parametrize(("pods", "pools"), [([LLM], POOLS), ([RAY], [CPU_POOL])])
def test_nothing_to_prove_is_an_error(pods: list[Pod], pools: list[NodePool]) -> None:
    with pytest.raises(ManifestError, match="nothing to prove"):
        prove(pods, pools)
