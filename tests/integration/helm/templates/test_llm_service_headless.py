from __future__ import annotations

from tests.support import chart


def test_dns_lists_the_pods() -> None:
    manifests = chart.rendered("prod")
    headless = chart.one(manifests, "Service", "isthmus-llm-headless")["spec"]
    assert headless["clusterIP"] == "None"
    assert (
        headless["selector"] == chart.one(manifests, "Service", "isthmus-llm")["spec"]["selector"]
    )
