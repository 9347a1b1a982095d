from __future__ import annotations

from tests.support import chart


def test_it_binds_to_the_https_listener() -> None:
    spec = chart.one(chart.rendered("gateway-api"), "HTTPRoute")["spec"]
    assert spec["parentRefs"] == [{"name": "edge", "namespace": "rag", "sectionName": "https"}]
    assert spec["hostnames"] == ["ask.example.com"]
    (backend,) = spec["rules"][0]["backendRefs"]
    # Upgraded step by step, traffic comes through KubeRay's own Gateway instead.
    assert backend == {"name": "isthmus-gateway-istio", "port": 80}


def test_it_reaches_the_service_that_kuberay_makes() -> None:
    values = {"ingress": {"kind": "gateway", "gatewayName": "edge"}}
    spec = chart.one(chart.render(values, "values-prod.yaml"), "HTTPRoute")["spec"]
    assert spec["rules"][0]["backendRefs"] == [{"name": "isthmus-serve-svc", "port": 8000}]


def test_it_replaces_the_ingress() -> None:
    assert chart.objects(chart.rendered("gateway-api"), "Ingress") == {}
