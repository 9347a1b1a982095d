from __future__ import annotations

import yaml

from tests.support import chart


def test_vault_objects_become_secrets() -> None:
    manifests = chart.rendered("secrets-and-people")
    found = chart.one(manifests, "SecretProviderClass")
    assert found["apiVersion"] == "secrets-store.csi.x-k8s.io/v1"
    assert found["spec"]["secretObjects"] == [
        {
            "secretName": "isthmus-redis",
            "type": "Opaque",
            "data": [{"objectName": "redis", "key": "p"}],
        }
    ]
    (text,) = yaml.safe_load(found["spec"]["parameters"]["objects"])["array"]
    assert yaml.safe_load(text) == {"objectName": "redis", "objectType": "secret"}


def test_ray_pods_mount_it_which_makes_the_secrets() -> None:
    cluster = chart.one(chart.rendered("secrets-and-people"), "RayService")["spec"]
    volumes = cluster["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["volumes"]
    (mounted,) = [v["csi"] for v in volumes if v["name"] == "secrets-store"]
    assert mounted["volumeAttributes"] == {"secretProviderClass": "isthmus"}
