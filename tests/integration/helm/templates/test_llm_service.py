from __future__ import annotations

from tests.support import chart


def test_no_case_publishes_it() -> None:
    for case in chart.MATRIX:
        for name, service in chart.objects(chart.rendered(case), "Service").items():
            assert service["spec"]["type"] in ("ClusterIP", "ExternalName"), (case, name)
            assert "externalIPs" not in service["spec"]


def test_it_selects_the_pods_that_serve_and_no_other_rank() -> None:
    manifests = chart.rendered("ranks-on-hosts")
    selector = chart.one(manifests, "Service", "isthmus-llm")["spec"]["selector"].items()
    roles = chart.objects(manifests, "MPIJob")["isthmus-llm-0"]["spec"]["mpiReplicaSpecs"]
    labels = {role: spec["template"]["metadata"]["labels"] for role, spec in roles.items()}
    assert selector <= labels["Launcher"].items()
    assert not selector <= labels["Worker"].items()
