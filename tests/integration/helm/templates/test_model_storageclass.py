from __future__ import annotations

from tests.support import chart


def test_premium_nfs_that_keeps_the_model() -> None:
    found = chart.one(chart.rendered("share-provisioned"), "StorageClass")
    assert found["provisioner"] == "file.csi.azure.com"
    assert found["parameters"] == {"protocol": "nfs", "skuName": "Premium_LRS"}
    assert found["reclaimPolicy"] == "Retain"


def test_an_existing_share_needs_none() -> None:
    assert chart.objects(chart.rendered("prod"), "StorageClass") == {}
