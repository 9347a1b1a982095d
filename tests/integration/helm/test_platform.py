"""helm/platform: pinned, complete, and installable by one script."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from kuberay.placement import parse_taint, parse_toleration
from tests.support import chart

PLATFORM = chart.CHART.parent / "platform"
VERSIONS: dict[str, Any] = yaml.safe_load((PLATFORM / "versions.yaml").read_text())


def install(*arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PATH": f"{path}:{os.environ['PATH']}" if path else os.environ["PATH"]}
    command = [sys.executable, str(PLATFORM / "install"), *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def test_everything_is_pinned_over_https() -> None:
    for release in VERSIONS["releases"].values():
        assert re.fullmatch(r"v?\d+\.\d+\.\d+", release["version"])
        assert release["repository"].startswith("https://")
    assert "/v0.8.0/" in VERSIONS["manifests"]["mpi-operator"]["url"]


def test_what_the_issue_names_is_there() -> None:
    names = {*VERSIONS["releases"], *VERSIONS["manifests"]}
    assert names == {
        "gpu-operator",
        "mpi-operator",
        "kuberay-operator",
        "kube-prometheus-stack",
        "cert-manager",
        "redis",
    }


@pytest.mark.parametrize("name", VERSIONS["releases"])
def test_each_release_has_values(name: str) -> None:
    assert isinstance(yaml.safe_load((PLATFORM / f"values/{name}.yaml").read_text()), dict)


def test_the_gpu_operator_reaches_every_gpu_node() -> None:
    values = yaml.safe_load((PLATFORM / "values/gpu-operator.yaml").read_text())
    taints = ["sku=gpu:NoSchedule", "kubernetes.azure.com/scalesetpriority=spot:NoSchedule"]
    for block in (values["daemonsets"], values["node-feature-discovery"]["worker"]):
        tolerations = [parse_toleration(t) for t in block["tolerations"]]
        for taint in map(parse_taint, taints):
            assert any(t.tolerates(taint) for t in tolerations)


def test_the_chart_looks_where_the_platform_is() -> None:
    values = yaml.safe_load((chart.CHART / "values.yaml").read_text())["networkPolicy"]
    releases = VERSIONS["releases"]
    assert values["operatorNamespace"] == releases["kuberay-operator"]["namespace"]
    assert values["monitoringNamespace"] == releases["kube-prometheus-stack"]["namespace"]
    redis = list(yaml.safe_load_all((PLATFORM / "redis.yaml").read_text()))
    assert values["redisNamespace"] == chart.one(redis, "Namespace")["metadata"]["name"]
    prod = yaml.safe_load((chart.CHART / "values-prod.yaml").read_text())["serve"]
    service = chart.one(redis, "Service")["metadata"]
    address = f"{service['name']}.{service['namespace']}.svc:6379"
    assert prod["faultTolerance"]["redisAddress"] == address


def test_redis_is_valid_and_takes_ray_pods_only() -> None:
    manifests = list(yaml.safe_load_all((PLATFORM / "redis.yaml").read_text()))
    for manifest in manifests:
        kubernetes_validate.validate(manifest, "1.34", strict=True)
    (rule,) = chart.one(manifests, "NetworkPolicy")["spec"]["ingress"]
    (peer,) = rule["from"]
    head = chart.one(chart.rendered("prod"), "RayService")["spec"]["rayClusterConfig"]
    labels = head["headGroupSpec"]["template"]["metadata"]["labels"]
    assert peer["podSelector"]["matchLabels"].items() <= labels.items()


def test_a_dry_run_prints_pinned_commands() -> None:
    result = install("--dry-run")
    assert result.returncode == 0, result.stderr
    lines = [shlex.split(line.removeprefix("+ ")) for line in result.stdout.splitlines()]
    assert len(lines) == 6
    kuberay = next(line for line in lines if "kuberay-operator" in line)
    assert kuberay[kuberay.index("--version") + 1] == "1.7.0"
    assert Path(kuberay[kuberay.index("--values") + 1]).is_file()


def test_an_unknown_name_is_refused() -> None:
    result = install("--dry-run", "--only", "mpi")
    assert result.returncode == 2
    assert "Unknown: mpi. Known: cert-manager" in result.stderr


def test_the_first_failure_stops_it(tmp_path: Path) -> None:
    for name, code in (("helm", 1), ("kubectl", 0)):
        tool = tmp_path / name
        tool.write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/calls\nexit {code}\n')
        tool.chmod(0o755)
    result = install(path=str(tmp_path))
    assert result.returncode == 1
    assert "helm failed; mend it and run this again" in result.stderr
    assert len((tmp_path / "calls").read_text().splitlines()) == 1


def test_the_redis_password_is_made_once(tmp_path: Path) -> None:
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(
        f"#!/bin/sh\ncd {tmp_path}\n"
        'case "$1" in get) exit "$(cat missing)";; create) cat > secret;; esac\n'
    )
    kubectl.chmod(0o755)
    (tmp_path / "missing").write_text("1")
    assert install("--only", "redis", path=str(tmp_path)).returncode == 0
    secret = yaml.safe_load((tmp_path / "secret").read_text())
    assert len(secret["stringData"]["redis-password"]) >= 32
    (tmp_path / "missing").write_text("0")
    (tmp_path / "secret").unlink()
    assert install("--only", "redis", path=str(tmp_path)).returncode == 0
    assert not (tmp_path / "secret").exists()
