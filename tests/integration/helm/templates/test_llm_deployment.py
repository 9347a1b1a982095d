from __future__ import annotations

import pytest

from tests.support import chart


@pytest.mark.parametrize(
    ("case", "arguments"),
    [
        (
            "vllm",
            {"--model=/models/qwen2.5-7b-instruct", "--tensor-parallel-size=1", "--port=8001"},
        ),
        ("tgi", {"--model-id=/models/qwen2.5-7b-instruct", "--num-shard=1", "--max-batch-size=8"}),
        ("mii", {"--model=/models/qwen2.5-7b-instruct", "--tensor-parallel=1"}),
    ],
)
def test_each_server_gets_its_own_arguments(case: str, arguments: set[str]) -> None:
    manifests = chart.rendered(case)
    spec = chart.one(manifests, "Deployment")["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert arguments <= set(container["args"])
    assert container["readinessProbe"]["httpGet"] == {"path": "/health", "port": "llm"}
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert spec["replicas"] == 2
    assert chart.objects(manifests, "MPIJob") == {}


def test_vllm_shows_and_asks_for_certificates() -> None:
    spec = chart.one(chart.rendered("vllm-mtls"), "Deployment")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert {"--ssl-cert-reqs=2", "--enable-ssl-refresh"} <= set(container["args"])
    assert container["readinessProbe"]["exec"]["command"][1] == "/scripts/probe.py"
    assert chart.env_of(container)["VLLM_API_KEY"]["secretKeyRef"]["name"] == "isthmus-llm-key"


def test_our_own_backend_renders_none() -> None:
    assert chart.objects(chart.rendered("prod"), "Deployment") == {}
