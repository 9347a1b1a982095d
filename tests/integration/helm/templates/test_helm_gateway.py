from __future__ import annotations

from tests.support import chart


def test_it_asks_the_gateway_from_a_cpu_node() -> None:
    pod = chart.one(chart.rendered("prod"), "Pod", "isthmus-test-gateway")
    script = pod["spec"]["containers"][0]["args"][0]
    compile(script, "test", "exec")
    assert "http://isthmus-serve-svc:8000/readyz" in script
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"


def test_it_goes_where_the_traffic_goes() -> None:
    pod = chart.one(chart.rendered("gateway-api"), "Pod", "isthmus-test-gateway")
    assert "http://isthmus-gateway-istio:80/readyz" in pod["spec"]["containers"][0]["args"][0]
