from __future__ import annotations

from kuberay.pods import templates_of
from tests.support import chart


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


def test_it_can_be_left_out() -> None:
    assert chart.objects(chart.rendered("open"), "NetworkPolicy") == {}
