"""Real Terraform against providers that are only their schemas. No cloud, no provider binary."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.support import provider_schema, tools

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "terraform"
PROVIDERS = {
    "azurerm": ("cdktn-provider-azurerm==18.9.0", "5.10.0", False),
    "helm": ("cdktn-provider-helm==15.1.0", "3.3.0", True),
}
RESOURCES = {
    "azurerm_federated_identity_credential",
    "azurerm_kubernetes_cluster",
    "azurerm_kubernetes_cluster_node_pool",
    "azurerm_netapp_account",
    "azurerm_netapp_pool",
    "azurerm_netapp_volume",
    "azurerm_private_dns_zone",
    "azurerm_private_dns_zone_virtual_network_link",
    "azurerm_private_endpoint",
    "azurerm_resource_group",
    "azurerm_role_assignment",
    "azurerm_storage_account",
    "azurerm_storage_container",
    "azurerm_storage_share",
    "azurerm_subnet",
    "azurerm_user_assigned_identity",
    "azurerm_virtual_network",
}


class Terraform:
    """A copy of the modules in a directory of its own, and Terraform to run on it."""

    def __init__(self, work: Path) -> None:
        self.work = work
        shutil.copytree(SOURCE, work / "terraform")
        shutil.copytree(ROOT / "helm/platform", work / "helm/platform")
        self.environment = {**os.environ, "TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1"}
        self.environment["TF_CLI_CONFIG_FILE"] = str(self._mirror())

    def run(self, folder: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Terraform in one folder of `terraform/`, making it ready first."""
        if not (self.work / "terraform" / folder / ".terraform").exists():
            ready = self._run(folder, "init", "-backend=false", "-no-color")
            assert ready.returncode == 0, ready.stderr
        return self._run(folder, *arguments, "-no-color")

    def _run(self, folder: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(tools.terraform()), *arguments],
            cwd=self.work / "terraform" / folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def _mirror(self) -> Path:
        mirror = self.work / "mirror"
        for name, (package, version, framework) in PROVIDERS.items():
            schema = self.work / f"{name}.json"
            wanted = None if framework else RESOURCES
            recovered = provider_schema.recover(
                tools.wheel(package), framework=framework, resources=wanted
            )
            assert recovered["version"] == version
            provider_schema.save(recovered, schema)
            folder = mirror / f"registry.terraform.io/hashicorp/{name}/{version}/linux_amd64"
            folder.mkdir(parents=True)
            self._launcher(folder / f"terraform-provider-{name}_v{version}", schema)
        config = self.work / "terraformrc"
        config.write_text(
            f'provider_installation {{ filesystem_mirror {{ path = "{mirror}" }} }}\n'
        )
        return config

    @staticmethod
    def _launcher(path: Path, schema: Path) -> None:
        provider = Path(__file__).parent / "schema_provider.py"
        python = tools.provider_python()
        path.write_text(f'#!/bin/sh\nexec "{python}" "{provider}" "{schema}" "$@"\n')
        path.chmod(0o755)
