"""The rank's end of the lifeline: heartbeats to the supervisor, and death when it is gone.

Every rank holds one connection to the supervisor: to its Unix socket, or over TCP and with a token
from another host. A thread writes a `Beat` each `INTERVAL_S`: silence means a stopped or starved
process. The connection's end means that the supervisor is gone, and the rank ends itself at once:
nobody is left to serve.
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
CUT_OFF_S = 10
"""A rank that cannot reach the supervisor's host for so long ends itself."""
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


def connect(path: str, remote: str = "", token: str = "") -> socket.socket:
    """Return a connection to the supervisor: over its Unix socket, else from another host.

    Args:
        path: `WorkerArguments.lifeline`.
        remote: `WorkerArguments.remote_lifeline`.
        token: shows the supervisor that this is one of its ranks.

    Raises:
        OSError: the supervisor is not there.
    """
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        line.connect(path)
    except OSError:
        line.close()
        if not remote:
            raise
        return _connect_remote(remote, token)
    return line


def _connect_remote(remote: str, token: str) -> socket.socket:
    host, _, port = remote.rpartition(":")
    line = socket.create_connection((host, int(port)), timeout=CUT_OFF_S)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, CUT_OFF_S * 1000)
    line.sendall(token.encode() + b"\n")
    return line


def hold(line: socket.socket, rank: int, step: Callable[[], int]) -> None:
    """Beat from a daemon thread until this process ends.

    Call it first thing in a rank, before the slow imports: it also ties the rank's life to that
    of its mpirun.

    Args:
        line: from `connect`.
        rank: MPI rank of this process.
        step: returns the number of steps finished; called from the thread.
    """
    die_with_parent()
    line.settimeout(INTERVAL_S)
    arguments = (line, rank, step, os.getppid())
    threading.Thread(target=_beat, args=arguments, name="lifeline", daemon=True).start()


def _beat(line: socket.socket, rank: int, step: Callable[[], int], parent: int) -> None:
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
    if line.family != socket.AF_UNIX and os.getppid() == parent:
        # mpirun's daemon on this host: cut off from mpirun, it would wait for ever.
        os.kill(parent, signal.SIGTERM)
    os._exit(ORPHANED_EXIT_CODE)
