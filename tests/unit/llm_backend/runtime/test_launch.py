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


def test_ranks_elsewhere_get_the_settings_that_concern_them() -> None:
    names = ["HOME", "LLM_MODEL", "LLM_API_KEY", "NCCL_DEBUG", "OMP_NUM_THREADS"]
    line = launch.command(LlmSettings(), Path("/m"), ARGUMENTS, ["worker"], forward=names)
    forwarded = [line[i + 1] for i, part in enumerate(line) if part == "-x"]
    assert forwarded == ["LLM_MODEL", "NCCL_DEBUG", "OMP_NUM_THREADS"]


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("", False),
        ("--mca btl tcp", False),
        ("--hostfile /etc/mpi/hostfile", True),
        ("--host localhost:8", False),
        ("--host localhost:1,worker:1 --mca x y", True),
        ("--host=a:1,b:1", True),
    ],
)
def test_whether_hosts_are_named(given: str, names: bool) -> None:
    assert launch.names_hosts(LlmSettings(mpirun_args=given)) is names


def test_no_shared_memory_of_mpi_between_hosts(tmp_path: Path) -> None:
    one = launch.environment(tmp_path, "t", several_hosts=False)
    assert one["OMPI_MCA_btl_sm_backing_directory"] == str(tmp_path)
    several = launch.environment(tmp_path, "t", several_hosts=True)
    assert several["OMPI_MCA_btl"] == "^sm"
    assert "OMPI_MCA_btl_sm_backing_directory" not in several
    assert several["LLM_LIFELINE_TOKEN"] == "t"


def test_arguments_that_cannot_be_split() -> None:
    with pytest.raises(SettingsError, match="LLM_MPIRUN_ARGS"):
        launch.command(LlmSettings(mpirun_args="'"), Path("/m"), ARGUMENTS, ["worker"])
