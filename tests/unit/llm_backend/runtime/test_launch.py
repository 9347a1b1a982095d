from __future__ import annotations

from pathlib import Path

import pytest

from llm_backend.errors import MpirunNotFoundError, SettingsError
from llm_backend.runtime import launch
from llm_backend.runtime.ipc import WorkerArguments
from llm_backend.settings import LlmSettings

ARGUMENTS = WorkerArguments("ipc:///x", "/y", Path("/z"))


def test_finds_the_mpirun_set(tmp_path: Path) -> None:
    program = tmp_path / "mpirun"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert launch.find_mpirun(LlmSettings(mpirun=str(program))) == program


def test_no_mpirun() -> None:
    with pytest.raises(MpirunNotFoundError, match="LLM_MPIRUN"):
        launch.find_mpirun(LlmSettings(mpirun="/nowhere/mpirun"))


def test_command() -> None:
    settings = LlmSettings(tensor_parallel=3, mpirun_args="--hostfile 'a b'")
    line = launch.command(settings, Path("/bin/mpirun"), ARGUMENTS, ["worker"])
    head = ["/bin/mpirun", "-np", "3", "--bind-to", "none", "--hostfile", "a b", "worker"]
    assert line[: len(head)] == head
    assert WorkerArguments.parse(line[len(head) :]) == ARGUMENTS


def test_arguments_that_cannot_be_split() -> None:
    with pytest.raises(SettingsError, match="LLM_MPIRUN_ARGS"):
        launch.command(LlmSettings(mpirun_args="'"), Path("/m"), ARGUMENTS, ["worker"])
