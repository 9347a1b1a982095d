"""Pod templates are found wherever they hide."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from kuberay.errors import ManifestError
from kuberay.pods import load_manifests, pods_of, requests_of

SPEC = {"containers": [{"name": "c"}]}
TEMPLATE = {"spec": SPEC}
RAY = {
    "headGroupSpec": {"template": TEMPLATE, "rayStartParams": {"num-gpus": "0"}},
    "workerGroupSpecs": [{"groupName": "cpu", "template": TEMPLATE}],
}


def manifest(kind: str, spec: Any, name: str = "x") -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": name}, "spec": spec}


@pytest.mark.parametrize(
    ("kind", "spec", "owners", "side"),
    [
        ("Pod", SPEC, ["Pod/x"], "other"),
        ("Deployment", {"template": TEMPLATE}, ["Deployment/x"], "other"),
        ("Job", {"template": TEMPLATE}, ["Job/x"], "other"),
        ("CronJob", {"jobTemplate": {"spec": {"template": TEMPLATE}}}, ["CronJob/x"], "other"),
        ("RayCluster", RAY, ["RayCluster/x head", "RayCluster/x workers cpu"], "ray"),
        (
            "RayService",
            {"rayClusterConfig": RAY},
            ["RayService/x head", "RayService/x workers cpu"],
            "ray",
        ),
        ("RayJob", {"rayClusterSpec": RAY}, ["RayJob/x head", "RayJob/x workers cpu"], "ray"),
        (
            "MPIJob",
            {"mpiReplicaSpecs": {"Launcher": {"template": TEMPLATE}}},
            ["MPIJob/x launcher"],
            "llm",
        ),
        ("Service", {}, [], ""),
    ],
)
def test_every_kind_with_a_template(kind: str, spec: Any, owners: list[str], side: str) -> None:
    pods = pods_of([manifest(kind, spec)])
    assert [p.owner for p in pods] == owners
    assert {p.side for p in pods} <= {side}


def test_a_deployment_is_of_the_llm_side_by_its_label() -> None:
    template = {"metadata": {"labels": {"isthmus.dev/side": "llm"}}, "spec": SPEC}
    assert pods_of([manifest("Deployment", {"template": template})])[0].side == "llm"


def test_requests_add_up_and_the_largest_init_counts() -> None:
    spec = {
        "containers": [
            {"resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "4", "nvidia.com/gpu": 1}}},
            {"resources": {"requests": {"cpu": "500m"}}},
        ],
        "initContainers": [
            {"resources": {"requests": {"cpu": "3"}}},
            {"restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}},
        ],
    }
    assert requests_of(spec) == {"cpu": Decimal(3), "nvidia.com/gpu": Decimal(1)}


@pytest.mark.parametrize(
    "group", [{"rayStartParams": {"num-gpus": "1"}}, {"resources": {"GPU": "1"}}]
)
def test_a_ray_group_that_advertises_a_gpu_is_noticed(group: dict[str, Any]) -> None:
    cluster = {"headGroupSpec": {"template": TEMPLATE, **group}}
    assert pods_of([manifest("RayCluster", cluster)])[0].advertised_gpus


@pytest.mark.parametrize(
    ("options", "cpu"),
    [({}, "1.5"), ({"resources": {"limits": {"cpu": "2"}}}, "3")],
)
def test_the_autoscaler_counts_with_the_head(options: dict[str, Any], cpu: str) -> None:
    container = {"resources": {"requests": {"cpu": "1"}}}
    cluster = {
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": options,
        "headGroupSpec": {"template": {"spec": {"containers": [container]}}},
        "workerGroupSpecs": [{"groupName": "w", "template": {"spec": {"containers": [container]}}}],
    }
    head, worker = pods_of([manifest("RayCluster", cluster)])
    assert head.requests["cpu"] == Decimal(cpu)
    assert worker.requests == {"cpu": Decimal(1)}


def test_affinity_by_match_fields_is_refused() -> None:
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}
    affinity = {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}
        }
    }
    with pytest.raises(ManifestError, match="Pod/x: affinity by matchFields"):
        pods_of([manifest("Pod", {**SPEC, "affinity": affinity})])


def test_a_template_without_containers_is_named() -> None:
    with pytest.raises(ManifestError, match="Deployment/x: the pod template lacks"):
        pods_of([manifest("Deployment", {"template": {"spec": {}}})])


def test_lists_are_unfolded_and_empty_documents_skipped() -> None:
    text = "---\n---\nkind: List\nitems: [{kind: Service}, {kind: Secret}]\n"
    assert [m["kind"] for m in load_manifests(text, "x.yaml")] == ["Service", "Secret"]


@pytest.mark.parametrize(("text", "words"), [("a: [", "is not YAML"), ("a: 1", "without `kind`")])
def test_what_is_no_manifest_is_refused(text: str, words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        load_manifests(text, "x.yaml")
