"""The complete example, planned and applied against schemas: pools proven, values fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from kuberay.pods import pods_of
from kuberay.pools import pools_from_file
from kuberay.proof import prove
from tests.support import chart
from tests.support.terraform import RESOURCES, Terraform

pytestmark = pytest.mark.timeout(900)  # the first test installs its tool

EXAMPLE = "examples/complete"
VARIABLES = {
    "subscription_id": "00000000-0000-0000-0000-000000000000",
    "storage_account_name": "exampleisthmus",
    "admin_group_ids": ["00000000-0000-0000-0000-000000000000"],
}


@pytest.fixture(scope="module")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    terraform = Terraform(tmp_path_factory.mktemp("tf"))
    variables = terraform.work / "terraform" / EXAMPLE / "test.auto.tfvars.json"
    variables.write_text(json.dumps(VARIABLES))
    planned = terraform.run(EXAMPLE, "plan", "-out=plan")
    assert planned.returncode == 0, planned.stderr
    return terraform


def shown(terraform: Terraform, what: str) -> Path:
    result = terraform.run(EXAMPLE, "show", "-json", *([what] if what else []))
    assert result.returncode == 0, result.stderr
    path = terraform.work / f"{what or 'state'}.json"
    path.write_text(result.stdout)
    return path


def test_the_plan_is_proven_before_anything_is_applied(terraform: Terraform) -> None:
    pools = pools_from_file(shown(terraform, "plan"))
    assert [(p.name, p.role, p.spot) for p in sorted(pools, key=lambda p: p.name)] == [
        ("cpu", "cpu", False),
        ("gpu", "gpu", False),
        ("gpuspot", "gpu", True),
        ("system", "system", False),
    ]
    assert prove(pods_of(chart.rendered("spot")), pools).findings == ()


def test_an_untainted_plan_is_not(terraform: Terraform) -> None:
    path = shown(terraform, "plan")
    path.write_text(path.read_text().replace('"sku=gpu:NoSchedule"', '"a=b:PreferNoSchedule"'))
    findings = prove(pods_of(chart.rendered("spot")), pools_from_file(path)).findings
    assert any("taint layer is missing" in finding for finding in findings)


def test_nothing_public_is_planned_beside_the_cluster(terraform: Terraform) -> None:
    """No public address, load balancer or firewall hole: the LLM cannot be reached from outside."""
    plan = json.loads(shown(terraform, "plan").read_text())
    types = {change["type"] for change in plan["resource_changes"]}
    assert types <= RESOURCES
    assert not {t for t in types if "public" in t or "_lb" in t or "gateway" in t}
    cluster = next(c for c in plan["resource_changes"] if c["type"] == "azurerm_kubernetes_cluster")
    assert cluster["change"]["after"]["private_cluster_enabled"] is True


def test_the_outputs_are_values_of_the_chart(terraform: Terraform) -> None:
    applied = terraform.run(EXAMPLE, "apply", "-auto-approve")
    assert applied.returncode == 0, applied.stderr
    output = terraform.run(EXAMPLE, "output", "-raw", "chart_values")
    values: dict[str, Any] = yaml.safe_load(output.stdout)
    assert values["serve"]["storageAccount"] == "exampleisthmus"
    values["llm"] = {"model": "m", "cpu": "16"}
    values["modelStorage"]["blob"]["prefix"] = "m"
    manifests = chart.render(values)
    assert prove(pods_of(manifests), pools_from_file(shown(terraform, ""))).findings == ()
