"""The rank's end of the lifeline: heartbeats to the supervisor, and death when it is gone.

Every rank holds one connection to the supervisor's Unix socket. A thread writes a `Beat` each
`INTERVAL_S`: silence means a stopped or starved process. The connection's end means that the
supervisor is gone, and the rank ends itself at once: nobody is left to serve.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable

import msgspec

INTERVAL_S = 0.5
ORPHANED_EXIT_CODE = 86
_PR_SET_PDEATHSIG = 1


class Beat(msgspec.Struct, frozen=True):
    """One heartbeat: who, and how many steps it has finished."""

    rank: int
    pid: int
    step: int


_encoder = msgspec.json.Encoder()


def die_with_parent() -> None:
    """Have the kernel kill this process when the process that started it dies (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def hold(path: str, rank: int, step: Callable[[], int]) -> None:
    """Connect to the supervisor and beat from a daemon thread until this process ends.

    Call it first thing in a rank, before the slow imports: it also ties the rank's life to that
    of its mpirun.

    Args:
        path: `WorkerArguments.lifeline`.
        rank: MPI rank of this process.
        step: returns the number of steps finished; called from the thread.

    Raises:
        OSError: the supervisor is not there.
    """
    die_with_parent()
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    line.connect(path)
    line.settimeout(INTERVAL_S)
    threading.Thread(target=_beat, args=(line, rank, step), name="lifeline", daemon=True).start()


def _beat(line: socket.socket, rank: int, step: Callable[[], int]) -> None:
    while True:
        beat = Beat(rank, os.getpid(), step())
        try:
            line.sendall(_encoder.encode(beat) + b"\n")
            if not line.recv(1):
                break
        except TimeoutError:
            continue  # the supervisor never writes: this is the pause between two beats
        except OSError:
            break
    os._exit(ORPHANED_EXIT_CODE)
