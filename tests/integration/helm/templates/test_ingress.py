from __future__ import annotations

from tests.support import chart


def test_it_publishes_the_gateway_over_tls() -> None:
    ingress = chart.one(chart.rendered("prod"), "Ingress")
    spec = ingress["spec"]
    assert spec["tls"] == [{"hosts": ["ask.example.com"], "secretName": "isthmus-tls"}]
    backend = spec["rules"][0]["http"]["paths"][0]["backend"]["service"]
    assert backend == {"name": "isthmus-serve-svc", "port": {"number": 8000}}
    assert ingress["metadata"]["annotations"] == {"cert-manager.io/cluster-issuer": "letsencrypt"}


def test_an_incremental_upgrade_has_a_service_of_its_own() -> None:
    upgrade = {"type": "NewClusterWithIncrementalUpgrade", "gatewayClassName": "eg"}
    values = {"serve": {"upgrade": upgrade | {"gatewayService": "front"}}}
    spec = chart.one(chart.render(values, "values-prod.yaml"), "Ingress")["spec"]
    backend = spec["rules"][0]["http"]["paths"][0]["backend"]["service"]
    assert backend == {"name": "front", "port": {"number": 80}}


def test_nothing_is_published_by_default() -> None:
    assert chart.objects(chart.rendered("default"), "Ingress") == {}


def test_no_case_publishes_the_llm() -> None:
    for case in chart.MATRIX:
        for kind in ("Ingress", "HTTPRoute"):
            for route in chart.objects(chart.rendered(case), kind).values():
                assert "llm" not in str(route["spec"])
