"""Every block of the installation guide that is marked to run offline is run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import chart, tools
from tests.support.terraform import Terraform

pytestmark = pytest.mark.timeout(900)  # the first test installs its tool

ROOT = chart.CHART.parents[1]
GUIDE = ROOT / "docs/operations/install.md"
BLOCKS = re.findall(r"^```sh runs offline\n(.*?)^```", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
PROVE = "isthmus cluster prove helm/isthmus --values helm/isthmus/values-prod.yaml"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A copy of what the guide uses, and an environment whose tools are the pinned ones."""
    terraform = Terraform(tmp_path_factory.mktemp("guide"))
    shutil.copytree(chart.CHART, terraform.work / "helm/isthmus")
    folders = [Path(sys.executable).parent, tools.helm(4).parent, tools.terraform().parent]
    path = ":".join([*map(str, folders), os.environ["PATH"]])
    return terraform.work, terraform.environment | {"PATH": path, "COLUMNS": "100"}


def test_the_guide_has_blocks_to_run() -> None:
    assert len(BLOCKS) == 3


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_block(checkout: tuple[Path, dict[str, str]], number: int) -> None:
    folder, environment = checkout
    command = ["bash", "-euo", "pipefail", "-c", BLOCKS[number]]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    if "cluster prove" in BLOCKS[number]:
        assert "Proven: Ray stays off GPU nodes" in done.stdout


def test_the_readme_shows_what_prove_prints(checkout: tuple[Path, dict[str, str]]) -> None:
    folder, environment = checkout
    done = subprocess.run(
        PROVE.split(), cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    shown = re.search(rf"```text\n\$ {re.escape(PROVE)}\n(.*?)```", _readme(), re.DOTALL)
    assert shown, "README shows no proof"
    assert [line.rstrip() for line in shown[1].strip().splitlines()] == [
        line.rstrip() for line in done.stdout.strip().splitlines()
    ]


def _readme() -> str:
    return (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", ["install.md", "unproven.md"])
def test_links_and_files_that_are_named_exist(name: str) -> None:
    text = (GUIDE.parent / name).read_text()
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert link.startswith("https://") or (GUIDE.parent / link).exists(), link
    for path in re.findall(r"`((?:helm|terraform|docker|docs)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path
