from __future__ import annotations

from tests.support import chart


def test_it_names_the_gateway_and_is_for_clients_only() -> None:
    found = chart.one(chart.rendered("mtls"), "Certificate", "isthmus-gateway")["spec"]
    assert found["dnsNames"] == ["isthmus-gateway", "isthmus-gateway.rag.svc"]
    assert found["usages"] == ["digital signature", "client auth"]
    assert found["secretName"] == "isthmus-gateway-tls"
    assert found["privateKey"]["rotationPolicy"] == "Always"


def test_a_given_issuer_signs_it() -> None:
    found = chart.one(chart.rendered("secrets-and-people"), "Certificate", "isthmus-gateway")
    assert found["spec"]["issuerRef"] == {"kind": "ClusterIssuer", "name": "corp"}


def test_without_mtls_there_is_none() -> None:
    assert chart.objects(chart.rendered("default"), "Certificate") == {}
