from __future__ import annotations

from tests.support import chart


def test_it_covers_every_name_that_clients_and_the_probe_use() -> None:
    found = chart.one(chart.rendered("mtls"), "Certificate", "isthmus-llm")["spec"]
    assert set(found["dnsNames"]) == {
        "isthmus-llm",
        "isthmus-llm.rag.svc",
        "isthmus-llm-headless.rag.svc",
        "localhost",
    }
    assert "server auth" in found["usages"]


def test_the_gateways_url_is_covered() -> None:
    manifests = chart.rendered("mtls")
    ray = chart.one(manifests, "RayService")["spec"]["rayClusterConfig"]["headGroupSpec"]
    url = chart.env_of(ray["template"]["spec"]["containers"][0])["RAG_LLM_URL"]
    host = url.removeprefix("https://").partition(":")[0]
    assert host in chart.one(manifests, "Certificate", "isthmus-llm")["spec"]["dnsNames"]


def test_the_chart_cannot_certify_an_external_service() -> None:
    values = {"llm": {"backend": "external"}, "mtls": {"enabled": True}}
    found = chart.objects(chart.render(values, "values-dev.yaml"), "Certificate")
    assert "isthmus-llm" not in found
