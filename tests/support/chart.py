"""Renders of the chart by a real Helm, cached: the same values are rendered once a session."""

from __future__ import annotations

import functools
import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.support import tools

CHART = Path(__file__).resolve().parents[2] / "helm/isthmus"
NAMESPACE = "rag"
Manifest = dict[str, Any]


def helm(major: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Helm in the chart's directory."""
    command = [str(tools.helm(major)), *arguments]
    return subprocess.run(command, cwd=CHART, capture_output=True, text=True, check=False)


def render(
    values: Mapping[str, Any] | None = None, file: str = "values.yaml", **options: Any
) -> list[Manifest]:
    """Return the objects that the chart renders with one values file and changes on top of it."""
    stream = yaml.load_all(text(values or {}, file, **options), Loader=yaml.CSafeLoader)
    return [document for document in stream if document]


def text(values: Mapping[str, Any], file: str = "values.yaml", **options: Any) -> str:
    """Return what Helm prints for these values."""
    result = _template(json.dumps(values, sort_keys=True), file, **options)
    assert result.returncode == 0, result.stderr
    return result.stdout


def refusal(values: Mapping[str, Any], file: str = "values.yaml", **options: Any) -> str:
    """Return Helm's message for values that the chart must refuse."""
    result = _template(json.dumps(values, sort_keys=True), file, **options)
    assert result.returncode != 0, "the chart accepted these values"
    return " ".join(result.stderr.split())


@functools.cache
def _template(
    values: str, file: str, major: int = 4, release: str = "isthmus"
) -> subprocess.CompletedProcess[str]:
    with tempfile.NamedTemporaryFile("w", suffix=".json") as extra:
        extra.write(values)
        extra.flush()
        arguments = ["--namespace", NAMESPACE, "--values", file, "--values", extra.name]
        return helm(major, "template", release, ".", *arguments)


def objects(manifests: Sequence[Manifest], kind: str) -> dict[str, Manifest]:
    """Return the objects of one kind by name."""
    return {m["metadata"]["name"]: m for m in manifests if m["kind"] == kind}


def one(manifests: Sequence[Manifest], kind: str, name: str = "") -> Manifest:
    """Return the only object of a kind, or the one of that name."""
    found = objects(manifests, kind)
    if name:
        return found[name]
    (only,) = found.values()
    return only


def env_of(container: Manifest) -> dict[str, Any]:
    """Return a container's environment: literal values, and the references as they are."""
    return {e["name"]: e.get("value", e.get("valueFrom")) for e in container.get("env", ())}


MATRIX: dict[str, tuple[str, dict[str, Any]]] = {
    "default": ("values.yaml", {}),
    "dev": ("values-dev.yaml", {}),
    "prod": ("values-prod.yaml", {}),
    "spot": ("values-spot.yaml", {}),
    "external-ip": (
        "values.yaml",
        {"llm": {"backend": "external", "external": {"ip": "10.1.2.3"}}},
    ),
    "external-tls": (
        "values.yaml",
        {"llm": {"backend": "external", "port": 443, "external": {"host": "api.x", "tls": True}}},
    ),
    "vllm": ("values-spot.yaml", {"llm": {"backend": "vllm"}}),
    "mtls": ("values-prod.yaml", {"mtls": {"enabled": True}}),
    "vllm-mtls": (
        "values-prod.yaml",
        {
            "mtls": {"enabled": True},
            "llm": {"backend": "vllm", "servedModelName": "m"},
            "modelStorage": {"cache": {"kind": "none"}},
        },
    ),
    "tgi": ("values-spot.yaml", {"llm": {"backend": "tgi", "extraArgs": ["--max-batch-size=8"]}}),
    "mii": ("values-spot.yaml", {"llm": {"backend": "mii", "image": "example/mii:1"}}),
    "ranks-on-hosts": (
        "values-spot.yaml",
        {
            "llm": {
                "attentionHeads": 64,
                "keyValueHeads": 8,
                "tensorParallel": 8,
                "gpusPerPod": 4,
                "hostNetwork": True,
                "rdma": {"enabled": True},
                "suspend": True,
            }
        },
    ),
    "netapp": (
        "values-prod.yaml",
        {
            "modelStorage": {
                "share": {
                    "type": "netapp",
                    "server": "10.0.0.4",
                    "path": "/models",
                    "storageAccount": "",
                    "shareName": "",
                    "resourceGroup": "",
                },
                "cache": {"kind": "ephemeral", "storageClass": "local-nvme"},
            }
        },
    ),
    "share-provisioned": (
        "values-prod.yaml",
        {
            "modelStorage": {
                "share": {"storageAccount": "", "shareName": "", "resourceGroup": ""},
                "cache": {"kind": "none"},
            }
        },
    ),
    "gateway-api": (
        "values-prod.yaml",
        {
            "ingress": {"kind": "gateway", "gatewayName": "edge"},
            "serve": {
                "upgrade": {
                    "type": "NewClusterWithIncrementalUpgrade",
                    "gatewayClassName": "istio",
                },
                "existingSecrets": ["api-keys"],
                "oidc": {"issuer": "https://login.example.com", "audience": "isthmus"},
                "modelsTable": '[[models]]\nname = "small"\n',
                "mcpTable": "[servers.wiki]\n",
                "tokenAuth": {"secretName": "ray-token"},
            },
        },
    ),
    "secrets-and-people": (
        "values-prod.yaml",
        {
            "images": {"pullSecrets": ["registry"], "serve": {"digest": "sha256:" + "0" * 64}},
            "mtls": {"enabled": True, "issuerName": "corp", "issuerKind": "ClusterIssuer"},
            "secretStore": {
                "enabled": True,
                "keyVault": "vault",
                "tenantId": "t",
                "secrets": [{"vaultName": "redis", "secret": "isthmus-redis", "key": "p"}],
            },
            "operators": [
                {"kind": "Group", "name": "ops"},
                {"kind": "ServiceAccount", "name": "ci"},
            ],
            "networkPolicy": {"redisCidrs": ["10.0.0.0/24"]},
        },
    ),
    "open": (
        "values.yaml",
        {
            "networkPolicy": {"enabled": False},
            "podDisruptionBudgets": False,
            "serve": {"tokenAuth": {"enabled": False}},
        },
    ),
}
"""Values that between them reach every branch of every template."""


def rendered(case: str, **options: Any) -> list[Manifest]:
    """Return the objects of one case of the matrix."""
    file, values = MATRIX[case]
    return render(values, file, **options)
