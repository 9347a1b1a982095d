from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from llm_backend.runtime.scratch import Scratch

_KILLED = """
import os, signal
from llm_backend.runtime.scratch import Scratch
print(Scratch().path, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_it_is_private_and_goes() -> None:
    scratch = Scratch()
    assert scratch.path.stat().st_mode & 0o777 == 0o700
    (scratch.path / "file").touch()
    scratch.remove()
    scratch.remove()
    assert not scratch.path.exists()


def test_what_a_killed_process_left_is_swept() -> None:
    done = subprocess.run([sys.executable, "-c", _KILLED], capture_output=True, text=True)
    left = Path(done.stdout.strip())
    assert left.is_dir()
    scratch = Scratch()
    assert not left.exists()
    scratch.remove()


def test_what_is_in_use_or_not_ours_stays(temporary: Path) -> None:
    first = Scratch()
    stranger = temporary / "isthmus-llm-stranger"  # no lock in it
    stranger.mkdir()
    second = Scratch()
    assert first.path.is_dir()
    assert stranger.is_dir()
    first.remove()
    second.remove()
