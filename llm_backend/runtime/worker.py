"""One rank of the engine: `mpirun -np N python -m llm_backend.runtime.worker ...`.

Rank 0 loads like the others, then takes requests from the front end and leads; the others follow
its plans. A rank that cannot go on says why and exits, and mpirun ends the whole job.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import NoReturn

import zmq

from llm_backend.errors import StartupError
from llm_backend.runtime import ipc, lifeline
from llm_backend.runtime.progress import Progress
from llm_backend.settings import LlmSettings

_FLUSH_MS = 2000


def main(argv: list[str]) -> None:
    """Run this rank until the front end shuts the engine down; exits with 1 on a failure."""
    arguments = ipc.WorkerArguments.parse(argv)
    settings = LlmSettings()
    index = _mpi_index()
    socket = ipc.connect(zmq.Context.instance(), arguments.endpoint) if index == 0 else None
    progress = Progress(socket)
    lifeline.hold(arguments.lifeline, index, lambda: progress.steps)
    os.environ["DS_ACCELERATOR"] = settings.device  # or DeepSpeed takes a GPU that it finds
    progress.report("starting MPI and importing DeepSpeed", 5)
    try:
        from llm_backend.runtime import job  # torch and DeepSpeed: seconds, hence only now

        job.run(arguments.model_dir, settings, progress, socket)
    except StartupError as error:
        _fail(socket, ipc.EngineFailed(str(error), permanent=True, rank=index))
    except Exception as error:  # noqa: BLE001  (whatever it is, the front end must hear of it)
        traceback.print_exc()
        message = f"Rank {index} failed: {type(error).__name__}: {error}"
        _fail(socket, ipc.EngineFailed(message, rank=index))


def _mpi_index() -> int:
    """Return this process's rank before MPI is started, from what Open MPI's launcher set."""
    return int(os.environ.get("OMPI_COMM_WORLD_RANK", "0"))


def _fail(socket: zmq.Socket[bytes] | None, failure: ipc.EngineFailed) -> NoReturn:
    """Tell the front end and end without MPI's farewell, which would wait for the other ranks."""
    if socket is not None:
        socket.send(ipc.encode(failure))
        socket.close(linger=_FLUSH_MS)
        zmq.Context.instance().term()
    print(failure.message, file=sys.stderr, flush=True)  # noqa: T201
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
