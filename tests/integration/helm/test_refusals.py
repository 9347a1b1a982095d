"""Values that make no sense are refused in a sentence that names the value and the mend."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import chart

PROD, SPOT, DEV = "values-prod.yaml", "values-spot.yaml", "values-dev.yaml"
SENTENCES: list[tuple[str, dict[str, Any], list[str]]] = [
    ("values.yaml", {"llm": {"replicas": 0}}, ["llm.replicas is 0", "isthmus cluster suspend"]),
    (
        PROD,
        {"llm": {"tensorParallel": 3, "gpusPerPod": 3}},
        ["llm.tensorParallel 3 does not divide the model's 64 heads", "choose a divisor"],
    ),
    (
        PROD,
        {"llm": {"keyValueHeads": 2}},
        ["does not divide the model's 2 heads (llm.keyValueHeads)"],
    ),
    (PROD, {"llm": {"gpusPerPod": 3}}, ["llm.gpusPerPod 3 does not divide llm.tensorParallel 4"]),
    (
        PROD,
        {"llm": {"backend": "vllm", "gpusPerPod": 2}},
        ["llm.backend vllm runs in one pod", "set llm.gpusPerPod to llm.tensorParallel (4)"],
    ),
    ("values.yaml", {"fullnameOverride": "x" * 60}, ["has 60 characters", "Set fullnameOverride"]),
    (
        SPOT,
        {"modelStorage": {"share": {"server": "10.0.0.4"}}},
        ["modelStorage.share is set but modelStorage.kind is blob"],
    ),
    (
        PROD,
        {"modelStorage": {"blob": {"account": "a"}}},
        ["modelStorage.blob is set but modelStorage.kind is share"],
    ),
    (
        PROD,
        {"modelStorage": {"share": {"server": "10.0.0.4"}}},
        ["azureFiles but fields of netapp are set"],
    ),
    (PROD, {"modelStorage": {"share": {"type": "netapp"}}}, ["needs share.server and share.path"]),
    (
        PROD,
        {"modelStorage": {"share": {"type": "netapp", "server": "s", "path": "/p"}}},
        ["netapp but fields of azureFiles are set"],
    ),
    (PROD, {"modelStorage": {"share": {"shareName": ""}}}, ["needs all of modelStorage.share"]),
    (
        PROD,
        {"modelStorage": {"share": {"fill": {"container": ""}}}},
        ["modelStorage.share.fill.container is empty"],
    ),
    (SPOT, {"modelStorage": {"blob": {"prefix": ""}}}, ["modelStorage.blob.prefix is empty"]),
    (
        "values.yaml",
        {"modelStorage": {"cache": {"kind": "hostPath"}}},
        ["modelStorage.cache.kind is hostPath but a bundled model is part of the image"],
    ),
    ("values.yaml", {"llm": {"model": "llama"}}, ['llm.model "llama" is not bundled']),
    (SPOT, {"llm": {"model": "bundled:x"}}, ['llm.model "bundled:x" is bundled in the image but']),
    (DEV, {"llm": {"external": {"host": ""}}}, ["set exactly one of llm.external.host"]),
    (DEV, {"llm": {"external": {"ip": "10.0.0.1"}}}, ["set exactly one of llm.external.host"]),
    (SPOT, {"llm": {"backend": "mii"}}, ["llm.backend mii has no vendor image: set llm.image"]),
    (SPOT, {"llm": {"backend": "tgi", "suspend": True}}, ["llm.suspend works with", "not tgi"]),
    (
        SPOT,
        {"llm": {"backend": "tgi"}, "mtls": {"enabled": True}},
        ["tgi cannot ask for client certificates", "mtls.enabled: false"],
    ),
    ("values.yaml", {"ingress": {"kind": "ingress"}}, ["ingress.host is empty"]),
    (
        PROD,
        {"serve": {"apiKeysSecret": ""}},
        ["ingress.kind is ingress but serve.apiKeysSecret is empty", "or the identity provider"],
    ),
    (
        PROD,
        {"serve": {"oidc": {"issuer": "https://login.example.com"}}},
        ["serve.oidc needs both issuer and audience"],
    ),
    (
        DEV,
        {"llm": {"external": {"tls": True}}, "mtls": {"enabled": True}},
        ["llm.external.tls goes with llm.external.host, and not with mtls.enabled"],
    ),
    (
        "values.yaml",
        {"serve": {"settings": {"RAG_LLM_URL": "http://other/v1"}}},
        ["serve.settings sets RAG_LLM_URL, which the chart sets from a value of its own"],
    ),
    ("values.yaml", {"llm": {"settings": {"LLM_PORT": "1"}}}, ["llm.settings sets LLM_PORT"]),
    (PROD, {"ingress": {"tlsSecret": ""}}, ["ingress.tlsSecret is empty", "over TLS only"]),
    (PROD, {"ingress": {"kind": "gateway"}}, ["ingress.gatewayName is empty"]),
    (
        PROD,
        {"serve": {"upgrade": {"type": "NewClusterWithIncrementalUpgrade"}}},
        ["serve.upgrade.gatewayClassName is empty"],
    ),
    (PROD, {"serve": {"faultTolerance": {"redisAddress": ""}}}, ["redisAddress is empty"]),
    (
        PROD,
        {"serve": {"faultTolerance": {"passwordSecret": ""}}},
        ["serve.faultTolerance.passwordSecret is empty; name the Secret"],
    ),
    (PROD, {"serve": {"storageAccount": ""}}, ["serve.storageAccount is empty"]),
    (
        SPOT,
        {"serve": {"storeUri": "/data"}},
        ['serve.storeUri "/data" is a directory inside one pod', "may have 6 pods"],
    ),
    ("values.yaml", {"secretStore": {"enabled": True}}, ["secretStore.enabled needs"]),
    (
        "values.yaml",
        {"serve": {"gateway": {"minReplicas": 9}}},
        ["serve.gateway.minReplicas 9 is above its maxReplicas 8"],
    ),
    (
        "values.yaml",
        {
            "serve": {
                "storeUri": "az://documents/store",
                "storageAccount": "a",
                "workers": [
                    {"name": "a", "minReplicas": 3, "maxReplicas": 2, "cpu": "1", "memory": "1Gi"}
                ],
            }
        },
        ["serve.workers[a].minReplicas 3 is above its maxReplicas 2"],
    ),
    (
        "values.yaml",
        {
            "serve": {
                "workers": [
                    {"name": "a", "minReplicas": 1, "maxReplicas": 1, "cpu": "1", "memory": "1Gi"}
                ]
                * 2
            }
        },
        ['serve.workers names the group "a" twice'],
    ),
]


@pytest.mark.parametrize(("file", "values", "words"), SENTENCES)
def test_combinations(file: str, values: dict[str, Any], words: list[str]) -> None:
    message = chart.refusal(values, file)
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"llm": {"replicas": "two"}}, "/llm/replicas"),
        ({"llm": {"replica": 2}}, "replica"),
        ({"llm": {"backend": "ollama"}}, "/llm/backend"),
        ({"llm": {"settings": {"RAG_TOP_K": "1"}}}, "/llm/settings"),
        ({"serve": {"settings": {"RAG_TOP_K": 3}}}, "/serve/settings/RAG_TOP_K"),
        ({"serve": {"workers": []}}, "/serve/workers"),
        ({"serve": {"head": {"cpu": 2}}}, "/serve/head/cpu"),
        ({"images": {"llm": {"digest": "latest"}}}, "/images/llm/digest"),
        ({"isolation": {"taint": {"effect": "PreferNoSchedule"}}}, "/isolation/taint/effect"),
        ({"nodePools": [{"name": "x", "role": "tpu"}]}, "/nodePools/0/role"),
        ({"global": {"anything": 1}}, "global"),
        ({"typo": 1}, "typo"),
    ],
)
@pytest.mark.parametrize("major", [3, 4])
def test_types_and_typos(values: dict[str, Any], place: str, major: int) -> None:
    message = chart.refusal(values, major=major)
    assert "values don't meet the specifications of the schema" in message
    assert place in message or place.strip("/").replace("/", ".") in message


def test_a_release_name_of_53_characters_is_refused_with_the_mend() -> None:
    assert "Set fullnameOverride to a shorter one" in chart.refusal({}, release="r" * 53)


def test_every_name_fits_when_the_prefix_is_as_long_as_allowed() -> None:
    values = {"fullnameOverride": "x" * 40}
    for manifest in chart.render(values, "values-prod.yaml"):
        assert len(manifest["metadata"]["name"]) <= 63
    for name in chart.objects(chart.render(values, "values-prod.yaml"), "MPIJob"):
        assert len(f"{name}-launcher-abcde") <= 63
