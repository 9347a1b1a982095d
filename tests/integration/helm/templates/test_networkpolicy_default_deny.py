from __future__ import annotations

import pytest

from kuberay.pods import templates_of
from tests.support import chart
from tests.support.network import JOB, LLM, RAY, TEST, Network, Peer


def test_it_covers_every_pod_of_the_release_both_ways() -> None:
    for case in ("default", "prod", "ranks-on-hosts", "vllm", "secrets-and-people"):
        manifests = chart.rendered(case)
        name = "isthmus-default-deny"
        spec = chart.objects(manifests, "NetworkPolicy")[name]["spec"]
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        assert "ingress" not in spec
        assert "egress" not in spec
        selector = spec["podSelector"]["matchLabels"].items()
        for manifest in manifests:
            for role, template, _ in templates_of(manifest):
                assert selector <= template["metadata"]["labels"].items(), (manifest["kind"], role)


@pytest.mark.parametrize("protocol", ["UDP", "TCP"])
def test_everybody_may_ask_for_names(protocol: str) -> None:
    net, dns = Network(chart.rendered("prod")), Peer(namespace="kube-system")
    for pod in (RAY, JOB, TEST, LLM):
        assert net.allows(pod, dns, 53, protocol)
    assert not net.allows(RAY, dns, 443, protocol)


def test_it_can_be_left_out() -> None:
    assert chart.objects(chart.rendered("open"), "NetworkPolicy") == {}
