"""One rank of the engine: `mpirun -np N python -m llm_backend.runtime.worker ...`.

Rank 0 loads like the others, then takes requests from the front end and leads; the others follow
its plans. A rank that cannot go on says why and exits, and mpirun ends the whole job.
"""

from __future__ import annotations

import os
import socket
import sys
import traceback
from typing import NoReturn

import zmq

from llm_backend.errors import StartupError
from llm_backend.models import store
from llm_backend.runtime import ipc, lifeline
from llm_backend.runtime.progress import Progress
from llm_backend.settings import LlmSettings

_FLUSH_MS = 2000
_NOT_HERE = (
    "Rank 0 must run beside the front end, which it talks to over local sockets: name this host "
    "first in LLM_MPIRUN_ARGS."
)


def main(argv: list[str]) -> None:
    """Run this rank until the front end shuts the engine down; exits with 1 on a failure."""
    arguments = ipc.WorkerArguments.parse(argv)
    settings = LlmSettings()
    index = _mpi_index()
    link = ipc.connect(zmq.Context.instance(), arguments.endpoint) if index == 0 else None
    progress = Progress(link)
    line = lifeline.connect(
        arguments.lifeline, arguments.remote_lifeline, settings.lifeline_token.get_secret_value()
    )
    lifeline.hold(line, index, lambda: progress.steps)
    remote = line.family != socket.AF_UNIX
    if index == 0 and remote:
        _fail(None, ipc.EngineFailed(_NOT_HERE))
    os.environ["DS_ACCELERATOR"] = settings.device  # or DeepSpeed takes a GPU that it finds
    progress.report("starting MPI and importing DeepSpeed", 5)
    try:
        from llm_backend.runtime import job  # torch and DeepSpeed: seconds, hence only now

        # The front end prepared the model on its own host.
        model_dir = store.resolve(settings) if remote else arguments.model_dir
        job.run(model_dir, settings, progress, link)
    except StartupError as error:
        _fail(link, ipc.EngineFailed(str(error), permanent=True, rank=index))
    except Exception as error:  # noqa: BLE001  (whatever it is, the front end must hear of it)
        traceback.print_exc()
        message = f"Rank {index} failed: {type(error).__name__}: {error}"
        _fail(link, ipc.EngineFailed(message, rank=index))


def _mpi_index() -> int:
    """Return this process's rank before MPI is started, from what Open MPI's launcher set."""
    return int(os.environ.get("OMPI_COMM_WORLD_RANK", "0"))


def _fail(link: zmq.Socket[bytes] | None, failure: ipc.EngineFailed) -> NoReturn:
    """Tell the front end and end without MPI's farewell, which would wait for the other ranks."""
    if link is not None:
        link.send(ipc.encode(failure))
        link.close(linger=_FLUSH_MS)
        zmq.Context.instance().term()
    print(failure.message, file=sys.stderr, flush=True)  # noqa: T201
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
