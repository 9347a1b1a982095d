"""checkov on every pod that the chart would start. It knows bare Pods only: they are extracted."""

from __future__ import annotations

import copy
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from kuberay.pods import templates_of
from tests.support import chart, tools

pytestmark = pytest.mark.timeout(900)  # the first test installs its tool


def write_pods(folder: Path, manifests: list[dict[str, Any]], case: str) -> int:
    """Write each pod, and the NetworkPolicies that checkov looks for beside them."""
    count = 0
    for manifest in manifests:
        if manifest["kind"] == "NetworkPolicy":
            _write(folder, f"{case}-{manifest['metadata']['name']}", manifest)
        for role, template, _ in templates_of(manifest):
            count += 1
            name = f"{case}-{manifest['metadata']['name']}-{role}".replace(" ", "-")
            metadata = {**template["metadata"], "name": name, "namespace": chart.NAMESPACE}
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}
            _write(folder, name, {**pod, "spec": template["spec"]})
    return count


def _write(folder: Path, name: str, manifest: dict[str, Any]) -> None:
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(manifest))


def failures(folder: Path) -> list[str]:
    command = [str(tools.checkov()), "--skip-download", "--framework", "kubernetes"]
    command += ["--directory", str(folder), "--output", "json", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)
    assert report["summary"]["parsing_errors"] == 0
    found = report["results"]["failed_checks"]
    return [f"{c['check_id']} {c['resource']}: {c['check_name']}" for c in found]


@pytest.fixture
def cases() -> list[str]:
    return [case for case in chart.MATRIX if case != "open"]  # "open" turns the policies off


def test_every_pod_passes(tmp_path: Path, cases: list[str]) -> None:
    counts = [write_pods(tmp_path, chart.rendered(case), case) for case in cases]
    assert sum(counts) > 50
    assert failures(tmp_path) == []


WEAKENINGS = {
    "CKV_K8S_20": ("allowPrivilegeEscalation", True),
    "CKV_K8S_22": ("readOnlyRootFilesystem", False),
    "CKV_K8S_37": ("capabilities", {}),
    "CKV_K8S_16": ("privileged", True),
}


def test_weaker_pods_do_not(tmp_path: Path) -> None:
    pod = next(m for m in chart.rendered("prod") if m["kind"] == "Pod")
    for check, (field, value) in WEAKENINGS.items():
        weak = copy.deepcopy(pod)
        weak["metadata"]["name"] = check.lower().replace("_", "-")
        weak["spec"]["containers"][0]["securityContext"][field] = value
        _write(tmp_path, check, weak)
    found = " ".join(failures(tmp_path))
    for check in WEAKENINGS:
        assert f"{check} Pod.default.{check.lower().replace('_', '-')}" in found


def test_every_suppression_has_a_reason() -> None:
    for case in chart.MATRIX:
        for manifest in chart.rendered(case):
            for _, template, _ in templates_of(manifest):
                notes = template["metadata"].get("annotations", {})
                skips = [v for k, v in notes.items() if k.startswith("checkov.io/skip")]
                assert all(len(skip.partition("=")[2].split()) >= 4 for skip in skips)
