"""The supervisor over an mpirun of our own, which says things at the wrong time."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

from llm_backend.runtime import ipc
from llm_backend.runtime.supervisor import State, Supervisor
from llm_backend.settings import LlmSettings

LATE_MPIRUN = f"""#!{sys.executable}
import signal, sys
from llm_backend.runtime import ipc
import zmq
argv = sys.argv[sys.argv.index("--endpoint") - 1 :]
link = ipc.connect(zmq.Context.instance(), ipc.WorkerArguments.parse(argv[1:]).endpoint)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
link.send(ipc.encode(ipc.Loading("loading weights", 40)))
signal.sigwait([signal.SIGTERM])
link.send(ipc.encode(ipc.Loading("allocating", 90)))
link.send(ipc.encode(ipc.Ready(100, 10, 16, "hash")))
signal.sigtimedwait([], 0.5)
"""
"""Becomes ready when it is told to end."""


class Listener:
    """Notes what it is told of the engine."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.down = asyncio.Event()

    def engine_up(self, ready: ipc.Ready, send: Callable[[ipc.ToEngine], None]) -> None:
        self.told.append("up")

    def engine_down(self, reason: str) -> None:
        self.told.append(reason)
        self.down.set()

    def engine_says(self, message: ipc.Outputs | ipc.Rejected) -> None:
        self.told.append("says")

    def stalled_since(self) -> float | None:
        return None


async def test_an_engine_that_is_ready_too_late_stays_down(tmp_path: Path) -> None:
    mpirun = tmp_path / "mpirun"
    mpirun.write_text(LATE_MPIRUN)
    mpirun.chmod(0o755)
    listener = Listener()
    settings = LlmSettings(start_timeout_s=2, restart_backoff_s=60, restart_backoff_max_s=60)
    supervisor = Supervisor(settings, listener, mpirun)

    running = asyncio.create_task(supervisor.run(tmp_path))
    await listener.down.wait()
    supervisor.stop()
    await running

    assert listener.told == [supervisor.status.reason]
    assert supervisor.status.reason.startswith("not ready")
    assert (supervisor.status.state, supervisor.status.phase) == (State.DOWN, "loading weights")
