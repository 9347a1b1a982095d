from __future__ import annotations

from tests.support import chart


def test_the_scripts_arrive_as_they_are() -> None:
    data = chart.one(chart.rendered("prod"), "ConfigMap")["data"]
    for name in ("fetch-model.sh", "probe.py"):
        assert data[name].strip() == (chart.CHART / "files" / name).read_text().strip()


def test_an_external_service_needs_none() -> None:
    assert chart.objects(chart.rendered("dev"), "ConfigMap") == {}
