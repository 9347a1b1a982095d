from __future__ import annotations

from tests.support import chart


def test_the_chart_makes_its_own_authority() -> None:
    manifests = chart.rendered("mtls")
    assert set(chart.objects(manifests, "Issuer")) == {"isthmus-selfsigned", "isthmus-ca"}
    authority = chart.one(manifests, "Certificate", "isthmus-ca")["spec"]
    assert authority["isCA"] is True
    assert authority["secretName"] == "isthmus-ca"


def test_a_given_issuer_replaces_it() -> None:
    manifests = chart.rendered("secrets-and-people")
    assert chart.objects(manifests, "Issuer") == {}
    assert "isthmus-ca" not in chart.objects(manifests, "Certificate")
