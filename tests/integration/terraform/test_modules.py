"""fmt, validate and test of every module by the real Terraform: schema-checked and mock-planned."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.terraform import SOURCE, Terraform

pytestmark = pytest.mark.timeout(900)  # the first test installs its tool

FOLDERS = [
    "modules/cluster",
    "modules/node_pools",
    "modules/model_storage",
    "modules/platform",
    "examples/complete",
]


@pytest.fixture(scope="module")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    return Terraform(tmp_path_factory.mktemp("tf"))


def test_every_folder_is_checked() -> None:
    found = {p.parent.relative_to(SOURCE).as_posix() for p in SOURCE.rglob("versions.tf")}
    assert found == set(FOLDERS)


def test_formatting(terraform: Terraform) -> None:
    result = terraform.run(".", "fmt", "-check", "-recursive", "-diff")
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("folder", FOLDERS)
def test_validate(terraform: Terraform, folder: str) -> None:
    result = terraform.run(folder, "validate")
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("folder", FOLDERS)
def test_promises(terraform: Terraform, folder: str) -> None:
    result = terraform.run(folder, "test")
    assert result.returncode == 0, result.stdout + result.stderr
    passed = re.search(r"(\d+) passed, 0 failed", result.stdout)
    assert passed
    assert int(passed[1]) == _runs(SOURCE / folder)


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_variable_and_output_is_described(folder: str) -> None:
    for path in (SOURCE / folder).glob("*.tf"):
        for name, body in re.findall(
            r'^(?:variable|output) "(\w+)" \{\n(.*?)^\}', path.read_text(), re.DOTALL | re.MULTILINE
        ):
            assert "description" in body, f"{path.name}: {name}"


FAULTS: list[tuple[str, str, str, str, str]] = [
    (
        "modules/node_pools",
        "gpu.tf",
        "[local.gpu_taint],",
        "[],",
        "Every GPU pool must carry sku=gpu:NoSchedule",
    ),
    (
        "modules/node_pools",
        "gpu.tf",
        '"isthmus.dev/pool" = "gpu"',
        '"isthmus.dev/pool" = "cpu"',
        "Every GPU pool must carry isthmus.dev/pool=gpu",
    ),
    (
        "modules/node_pools",
        "gpu.tf",
        'each.value.spot ? "Spot" : "Regular"',
        '"Regular"',
        "A spot pool has a price",
    ),
    (
        "modules/node_pools",
        "cpu.tf",
        "node_public_ip_enabled = false",
        "node_public_ip_enabled = true",
        "No node has a public address",
    ),
    (
        "modules/node_pools",
        "gpu.tf",
        "each.value.zones",
        "[]",
        "A pool is in the zones it names",
    ),
    (
        "modules/node_pools",
        "gpu.tf",
        "= each.value.min_count",
        "= 1",
        "Pools scale by themselves and down to zero",
    ),
    (
        "modules/model_storage",
        "netapp.tf",
        '"0777"',
        '"0755"',
        "The fill Job, which is not root",
    ),
    (
        "modules/cluster",
        "cluster.tf",
        "private_cluster_enabled             = var.private_api",
        "private_cluster_enabled             = false",
        "The API server must be private",
    ),
    (
        "modules/cluster",
        "cluster.tf",
        'network_policy      = "cilium"',
        'network_policy      = "azure"',
        "NetworkPolicies need",
    ),
    (
        "modules/model_storage",
        "blob.tf",
        'public_network_access           = "Disabled"',
        'public_network_access           = "Enabled"',
        "must be reachable privately",
    ),
    (
        "modules/model_storage",
        "identities.tf",
        "Storage Blob Data Reader",
        "Storage Blob Data Owner",
        "The LLM side reads models and no more",
    ),
    (
        "modules/platform",
        "releases.tf",
        "each.value.version",
        '"latest"',
        "Every release must be pinned",
    ),
]


@pytest.mark.parametrize(("folder", "file", "good", "bad", "words"), FAULTS)
def test_a_planted_fault_fails_the_promises(
    terraform: Terraform, folder: str, file: str, good: str, bad: str, words: str
) -> None:
    with _changed(terraform.work / "terraform" / folder / file, good, bad):
        result = terraform.run(folder, "test")
    assert result.returncode != 0
    assert words in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("good", "bad", "words"),
    [
        ("node_taints", "node_taint", "Unsupported argument"),
        ("= each.value.os_disk_gb", '= "big"', "Inappropriate value"),
        ("vm_size                =", "size                   =", "Unsupported argument"),
        ("kubernetes_cluster_id  = var.cluster_id", "", "Missing required argument"),
        ("  lifecycle {", "  upgrade {\n  }\n  lifecycle {", "Unsupported block type"),
        ("gpu_driver             =", "node_image_version     =", "unconfigurable attribute"),
    ],
)
def test_a_planted_mistake_fails_validation(
    terraform: Terraform, good: str, bad: str, words: str
) -> None:
    path = terraform.work / "terraform/modules/node_pools/gpu.tf"
    with _changed(path, good, bad):
        result = terraform.run("modules/node_pools", "validate")
    assert result.returncode != 0
    assert words in result.stderr


@contextmanager
def _changed(path: Path, good: str, bad: str) -> Iterator[None]:
    sound = path.read_text()
    assert good in sound
    path.write_text(sound.replace(good, bad, 1))
    try:
        yield
    finally:
        path.write_text(sound)


def _runs(folder: Path) -> int:
    texts = (p.read_text() for p in (folder / "tests").glob("*.tftest.hcl"))
    return sum(len(re.findall(r'^run "', text, re.MULTILINE)) for text in texts)
