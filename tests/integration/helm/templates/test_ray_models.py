from __future__ import annotations

import tomllib

from tests.support import chart


def test_the_table_arrives_as_it_is() -> None:
    data = chart.one(chart.rendered("gateway-api"), "ConfigMap", "isthmus-ray-models")["data"]
    assert tomllib.loads(data["models.toml"]) == {"models": [{"name": "small"}]}


def test_another_table_makes_another_cluster() -> None:
    """KubeRay upgrades when the pod template changes; a ConfigMap alone would not be noticed."""
    marks = set()
    for name in ("a", "b"):
        manifests = chart.render({"serve": {"modelsTable": f'[[models]]\nname = "{name}"\n'}})
        spec = chart.one(manifests, "RayService")["spec"]["rayClusterConfig"]
        marks.add(spec["headGroupSpec"]["template"]["metadata"]["annotations"]["checksum/models"])
    assert len(marks) == 2
