"""The Dockerfiles as far as they can be judged without building them."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.support import tools

pytestmark = pytest.mark.timeout(900)  # the first test installs its tool

ROOT = Path(__file__).resolve().parents[3]
DOCKER = ROOT / "docker"
FILES = ["Dockerfile.serve", "Dockerfile.llm"]


def hadolint(text: str) -> subprocess.CompletedProcess[str]:
    command = [str(tools.hadolint()), "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


def checkov(folder: Path, framework: str) -> list[str]:
    command = [str(tools.checkov()), "--skip-download", "--framework", framework]
    command += ["--directory", str(folder), "--output", "json", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)
    return [f"{c['check_id']} {c['resource']}" for c in report["results"]["failed_checks"]]


@pytest.mark.parametrize("name", FILES)
def test_hadolint(name: str) -> None:
    result = hadolint((DOCKER / name).read_text())
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("name", FILES)
def test_hadolint_would_notice(name: str) -> None:
    text = (DOCKER / name).read_text()
    assert hadolint(re.sub(r"(FROM [^\s:]+):\S+", r"\1:latest", text)).returncode != 0
    assert hadolint(re.sub(r"# hadolint ignore.*\n", "", text)).returncode != 0


def test_checkov_on_the_images() -> None:
    assert checkov(DOCKER, "dockerfile") == []


def test_checkov_would_notice_root(tmp_path: Path) -> None:
    text = (DOCKER / "Dockerfile.serve").read_text().replace("USER 10001:10001\n", "")
    (tmp_path / "Dockerfile").write_text(text)
    assert any("CKV_DOCKER_3" in failure for failure in checkov(tmp_path, "dockerfile"))


def test_checkov_on_terraform() -> None:
    assert checkov(ROOT / "terraform", "terraform") == []


def test_checkov_would_notice_public_storage(tmp_path: Path) -> None:
    text = (ROOT / "terraform/modules/model_storage/blob.tf").read_text()
    (tmp_path / "blob.tf").write_text(text.replace('"TLS1_2"', '"TLS1_0"'))
    assert any("CKV_AZURE_44" in failure for failure in checkov(tmp_path, "terraform"))


def test_every_suppression_has_a_reason() -> None:
    for path in (ROOT / "terraform").rglob("*.tf"):
        for skip in re.findall(r"checkov:skip=(.*)", path.read_text()):
            assert len(skip.partition(":")[2].split()) >= 4, f"{path.name}: {skip}"
    for name in FILES:
        for ignore in re.findall(r"# hadolint ignore=\S+(.*)", (DOCKER / name).read_text()):
            assert len(ignore.split()) >= 4, name


@pytest.mark.parametrize("name", FILES)
def test_both_are_pinned_staged_and_without_root(name: str) -> None:
    text = (DOCKER / name).read_text()
    stages = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert len(stages) == 2
    assert all(re.search(r":\d+\.\d+\.\d+", stage) for stage in stages)
    assert re.findall(r"^USER (\S+)", text, re.MULTILINE)[-1] == "10001:10001"
    assert "-c constraints.txt" in text
    assert "HEALTHCHECK" in text


def test_each_side_leaves_out_the_others_room() -> None:
    """The CPU image has no LLM code, the GPU image no Ray code; the builds check the libraries."""
    serve, llm = ((DOCKER / name).read_text() for name in FILES)
    assert "COPY llm_backend" not in serve
    assert 'python -c "import torch"' in serve
    assert "COPY serve_app" not in llm
    assert 'python3 -c "import ray"' in llm


def test_what_is_copied_is_let_through() -> None:
    allowed = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    for name in FILES:
        for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", (DOCKER / name).read_text(), re.M):
            for source in sources.split():
                assert source in allowed, f"{name} copies {source}"
                assert (ROOT / source).exists()


def test_the_chart_and_the_image_agree_on_ssh() -> None:
    config = (DOCKER / "sshd_config").read_text()
    job = (ROOT / "helm/isthmus/templates/mpijob.yaml").read_text()
    assert "Port 2222" in config
    assert "containerPort: 2222" in job
    home = re.search(r"sshAuthMountPath: (\S+)", job)
    assert home
    assert f"HostKey {home[1]}/id_rsa" in config
    assert "-f, /etc/isthmus/sshd_config" in job
    assert (
        "COPY docker/sshd_config /etc/isthmus/sshd_config"
        in (DOCKER / "Dockerfile.llm").read_text()
    )
