from __future__ import annotations

from tests.support import chart


def test_the_script_arrives_as_it_is() -> None:
    data = chart.one(chart.rendered("prod"), "ConfigMap")["data"]
    assert data["probe.py"].strip() == (chart.CHART / "files/probe.py").read_text().strip()


def test_an_external_service_needs_none() -> None:
    assert chart.objects(chart.rendered("dev"), "ConfigMap") == {}
