"""The scripts that travel inside the chart, run for real."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from tests.support import chart

FETCH = chart.CHART / "files/fetch-model.sh"


def fetch(
    source: Path | str, target: Path, path: Path | None = None
) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "SOURCE": str(source), "TARGET": str(target)}
    if path is not None:
        env["PATH"] = f"{path}:{env['PATH']}"
    command = ["sh", str(FETCH)]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


@pytest.fixture
def share(tmp_path: Path) -> Path:
    folder = tmp_path / "share"
    (folder / "sub").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights" * 1000)
    (folder / "sub/config.json").write_text("{}")
    _sum(folder)
    return folder


def _sum(folder: Path) -> None:
    names = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "SHA256SUMS")
    lines = [
        f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(folder)}" for p in names
    ]
    (folder / "SHA256SUMS").write_text("\n".join(lines) + "\n")


def test_a_share_is_copied_and_verified(share: Path, tmp_path: Path) -> None:
    target = tmp_path / "models/m"
    assert "verified" in fetch(share, target).stdout
    assert (target / "sub/config.json").read_text() == "{}"
    assert "is complete" in fetch(share, target).stdout


def test_a_torn_copy_is_mended(share: Path, tmp_path: Path) -> None:
    target = tmp_path / "m"
    target.mkdir()
    (target / "model.safetensors").write_bytes(b"weigh")
    result = fetch(share, target)
    assert result.returncode == 0, result.stderr
    assert "fetching the broken files again" in result.stderr
    assert (target / "model.safetensors").read_bytes() == b"weights" * 1000


def test_a_broken_source_is_never_called_complete(share: Path, tmp_path: Path) -> None:
    (share / "model.safetensors").write_bytes(b"rot")
    target = tmp_path / "m"
    result = fetch(share, target)
    assert result.returncode == 1
    assert "upload it again" in result.stderr
    assert not (target / ".complete").exists()


def test_a_new_model_on_the_share_replaces_what_is_cached(share: Path, tmp_path: Path) -> None:
    target = tmp_path / "m"
    fetch(share, target)
    (target / "SHA256SUMS").write_text("changed\n")
    (share / "model.safetensors").write_bytes(b"new" * 5000)
    _sum(share)
    assert fetch(share, target).returncode == 0
    assert (target / "model.safetensors").read_bytes() == b"new" * 5000


@pytest.mark.parametrize(
    ("prepare", "words"),
    [("absent", "is not on the share; fill it first"), ("unsummed", "holds no SHA256SUMS")],
)
def test_what_is_missing_is_said(share: Path, tmp_path: Path, prepare: str, words: str) -> None:
    (share / "SHA256SUMS").unlink()
    source = tmp_path / "nothing" if prepare == "absent" else share
    result = fetch(source, tmp_path / "m")
    assert result.returncode == 1
    assert words in result.stderr


def test_blobs_are_synced_by_azcopy(share: Path, tmp_path: Path) -> None:
    """A stand-in for azcopy: it notes its arguments and brings the files."""
    tools = tmp_path / "bin"
    tools.mkdir()
    fake = tools / "azcopy"
    fake.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/args\ncp -R {share}/. "$3/"\n')
    fake.chmod(0o755)
    url = "https://a.blob.core.windows.net/models/m"
    target = tmp_path / "m"
    result = fetch(url, target, tools)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "args").read_text().split()[:3] == ["sync", url, str(target)]
