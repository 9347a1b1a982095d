from __future__ import annotations

from tests.support import chart


def test_it_is_bound_to_the_volume_and_outlives_the_release() -> None:
    manifests = chart.rendered("prod")
    claim = chart.one(manifests, "PersistentVolumeClaim")
    assert (
        claim["spec"]["volumeName"] == chart.one(manifests, "PersistentVolume")["metadata"]["name"]
    )
    assert claim["spec"]["storageClassName"] == ""
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_a_provisioned_one_names_its_class() -> None:
    manifests = chart.rendered("share-provisioned")
    claim = chart.one(manifests, "PersistentVolumeClaim")["spec"]
    assert claim["storageClassName"] == chart.one(manifests, "StorageClass")["metadata"]["name"]
    assert "volumeName" not in claim


def test_ranks_mount_it_read_only() -> None:
    job = chart.objects(chart.rendered("share-provisioned"), "MPIJob")["isthmus-llm-0"]["spec"]
    pod = job["mpiReplicaSpecs"]["Launcher"]["template"]["spec"]
    volume = next(v for v in pod["volumes"] if v["name"] == "models")
    assert volume["persistentVolumeClaim"] == {"claimName": "isthmus-models", "readOnly": True}
    mount = next(m for m in pod["containers"][0]["volumeMounts"] if m["name"] == "models")
    assert mount == {"name": "models", "mountPath": "/models", "readOnly": True}
    assert "initContainers" not in pod
