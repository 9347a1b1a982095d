"""`isthmus ingest` and `isthmus ask` as a user runs them, on a folder of everything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.serve_app.conftest import MockProcess
from tests.support.documents import bomb
from tests.support.mixed import BROKEN, GOOD
from tests.support.processes import ROOT
from tests.support.serve import Gateway

HUGE = "immense.txt"
HUGE_BYTES = 500 * 2**20
FITS = "huge.txt"
"""Too large in the other test of this folder, whose limit is lower."""

SKIPPED = "old.doc"
"""Of a kind that is not read: no failure in a folder, but told."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixed") / "folder"
    folder.mkdir()
    for name, content in {
        **GOOD,
        **{name: content for name, (content, _) in BROKEN.items()},
    }.items():
        (folder / name).write_bytes(content)
    (folder / "bomb.docx").write_bytes(bomb(300 * 2**20))
    with (folder / HUGE).open("wb") as file:
        file.truncate(HUGE_BYTES)
    (folder / "again").symlink_to(folder, target_is_directory=True)
    return folder


def isthmus(served: Gateway, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *words],
        cwd=ROOT,
        env={**os.environ, "ISTHMUS_URL": served.url},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


def test_each_failure_is_named_and_the_rest_is_asked_about(
    served: Gateway, mock: MockProcess, folder: Path
) -> None:
    done = isthmus(served, "ingest", str(folder), "--collection", "mixed")
    report = done.stdout.partition(" failed:\n")[2]
    assert done.returncode == 1, done.stdout + done.stderr
    named = {line.split()[1].removesuffix(":") for line in report.splitlines()}
    broken = BROKEN.keys() - {FITS, SKIPPED} | {HUGE}
    assert {Path(name).name for name in named} == broken
    for name, (_, words) in BROKEN.items():
        assert name in {FITS, SKIPPED} or words in report, name
    assert f"skipped  {folder / SKIPPED}: " in done.stdout
    assert "larger than" in report
    for name in GOOD:
        assert f"created  {folder / name}: " in done.stdout
    with mock.running():
        answer = isthmus(served, "ask", "What does the otter page say?", "--collection", "mixed")
    assert answer.returncode == 0, answer.stderr
    assert "report.pdf, p. 2" in answer.stdout
