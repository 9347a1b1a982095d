from __future__ import annotations

from tests.support import chart


def test_it_binds_to_the_https_listener() -> None:
    spec = chart.one(chart.rendered("gateway-api"), "HTTPRoute")["spec"]
    assert spec["parentRefs"] == [{"name": "edge", "namespace": "rag", "sectionName": "https"}]
    assert spec["hostnames"] == ["ask.example.com"]
    assert spec["rules"][0]["backendRefs"] == [{"name": "isthmus-serve-svc", "port": 8000}]


def test_it_replaces_the_ingress() -> None:
    assert chart.objects(chart.rendered("gateway-api"), "Ingress") == {}
