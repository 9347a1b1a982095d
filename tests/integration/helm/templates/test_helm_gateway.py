from __future__ import annotations

from tests.support import chart


def test_it_asks_the_gateway_from_a_cpu_node() -> None:
    pod = chart.one(chart.rendered("prod"), "Pod", "isthmus-test-gateway")
    script = pod["spec"]["containers"][0]["args"][0]
    compile(script, "test", "exec")
    assert "http://isthmus-serve-svc:8000/readyz" in script
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
