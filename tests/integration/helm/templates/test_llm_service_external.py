from __future__ import annotations

from tests.support import chart


def test_a_host_becomes_an_alias_and_nothing_else_of_the_llm_is_rendered() -> None:
    manifests = chart.rendered("dev")
    spec = chart.one(manifests, "Service")["spec"]
    assert spec == {"type": "ExternalName", "externalName": "llm.example.internal"}
    named = {m["metadata"]["name"] for m in manifests if "llm" in m["metadata"]["name"]}
    assert named == {"isthmus-llm", "isthmus-llm-external"}  # the Service and its egress


def test_an_address_becomes_an_endpoint() -> None:
    manifests = chart.rendered("external-ip")
    endpoints = chart.one(manifests, "EndpointSlice")
    assert endpoints["metadata"]["labels"]["kubernetes.io/service-name"] == "isthmus-llm"
    assert endpoints["endpoints"][0]["addresses"] == ["10.1.2.3"]
    assert "selector" not in chart.one(manifests, "Service")["spec"]
