from __future__ import annotations

from tests.support import chart


def test_an_existing_azure_files_share_over_nfs() -> None:
    spec = chart.one(chart.rendered("prod"), "PersistentVolume")["spec"]
    assert spec["csi"]["driver"] == "file.csi.azure.com"
    assert spec["csi"]["volumeAttributes"]["protocol"] == "nfs"
    assert spec["csi"]["volumeHandle"] == "example-isthmus#exampleisthmus#models"
    assert spec["persistentVolumeReclaimPolicy"] == "Retain"
    assert "ReadOnlyMany" in spec["accessModes"]


def test_a_netapp_volume() -> None:
    spec = chart.one(chart.rendered("netapp"), "PersistentVolume")["spec"]
    assert spec["nfs"] == {"server": "10.0.0.4", "path": "/models"}


def test_a_provisioned_share_brings_its_own() -> None:
    assert chart.objects(chart.rendered("share-provisioned"), "PersistentVolume") == {}
