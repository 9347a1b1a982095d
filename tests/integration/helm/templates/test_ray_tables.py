from __future__ import annotations

import tomllib

import pytest

from tests.support import chart


def test_the_tables_arrive_as_they_are() -> None:
    data = chart.one(chart.rendered("gateway-api"), "ConfigMap", "isthmus-ray-tables")["data"]
    assert tomllib.loads(data["models.toml"]) == {"models": [{"name": "small"}]}
    assert tomllib.loads(data["mcp.toml"]) == {"servers": {"wiki": {}}}


def test_without_tables_there_is_none() -> None:
    assert "isthmus-ray-tables" not in chart.objects(chart.rendered("prod"), "ConfigMap")


@pytest.mark.parametrize("table", ["modelsTable", "mcpTable"])
def test_another_table_makes_another_cluster(table: str) -> None:
    """KubeRay upgrades when the pod template changes; a ConfigMap alone would not be noticed."""
    marks = set()
    for name in ("a", "b"):
        manifests = chart.render({"serve": {table: f'[[x]]\nname = "{name}"\n'}})
        spec = chart.one(manifests, "RayService")["spec"]["rayClusterConfig"]
        marks.add(spec["headGroupSpec"]["template"]["metadata"]["annotations"]["checksum/tables"])
    assert len(marks) == 2
