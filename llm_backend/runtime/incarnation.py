"""One start of the engine, from mpirun's launch to the end of its last rank."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import zmq
import zmq.asyncio

from llm_backend.runtime import ipc, launch
from llm_backend.runtime.address import own_address
from llm_backend.runtime.health import Limits, Vitals, diagnose
from llm_backend.runtime.rank_lines import RankLines
from llm_backend.runtime.scratch import Scratch
from llm_backend.settings import LlmSettings

_CHECK_S = 0.2
_SHUTDOWN_S = 5.0
_TERMINATE_S = 5.0


class Incarnation:
    """mpirun, the ranks' lifelines and the socket to rank 0; start, watch, end.

    Args:
        on_message: gets all that rank 0 sends.
        stalled_since: says since when (monotonic) work waits without output, or None.
    """

    def __init__(
        self,
        settings: LlmSettings,
        mpirun: Path,
        worker: Sequence[str],
        on_message: Callable[[ipc.ToFront], None],
        stalled_since: Callable[[], float | None],
    ) -> None:
        self._settings = settings
        self._mpirun = mpirun
        self._worker = worker
        self._on_message = on_message
        self._stalled_since = stalled_since
        self._changed = asyncio.Event()
        self._scratch = Scratch()
        self._context = zmq.asyncio.Context()
        self._socket: zmq.asyncio.Socket = self._context.socket(zmq.DEALER)
        self._process: asyncio.subprocess.Process | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.vitals = Vitals(started_at=time.monotonic())
        self._lines = RankLines(self.vitals.ranks, self._changed.set)
        self.failure: ipc.EngineFailed | None = None
        """What a rank said of its end, if it did."""

    async def start(self, model_dir: Path) -> None:
        """Launch the ranks. Call `end` in any case, also when this raises.

        Raises:
            OSError: a process or socket could not be made.
            StartupError: a setting that concerns the launch is wrong.
        """
        ipc.configure(self._socket)
        arguments = await self._listen(model_dir)
        environment = launch.environment(
            self._scratch.path, self._lines.token, several_hosts=bool(arguments.remote_lifeline)
        )
        self._process = await asyncio.create_subprocess_exec(
            *launch.command(
                self._settings, self._mpirun, arguments, self._worker, forward=environment
            ),
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            # Out of the terminal's process group: Ctrl-C is for the supervisor, which drains.
            start_new_session=True,
        )
        self._tasks = [
            asyncio.create_task(self._receive()),
            asyncio.create_task(self._await_exit(self._process)),
        ]

    async def _listen(self, model_dir: Path) -> ipc.WorkerArguments:
        """Open the sockets that the ranks connect to; return what the ranks are told of them."""
        endpoint, lifeline = f"ipc://{self._scratch.path}/engine", self._scratch.path / "lifeline"
        self._socket.bind(endpoint)
        await self._lines.listen(lifeline)
        remote = ""
        if launch.names_hosts(self._settings):
            address = own_address(self._settings.advertise_address)
            remote = await self._lines.listen_remote(address)
        return ipc.WorkerArguments(endpoint, str(lifeline), model_dir, remote)

    def send(self, message: ipc.ToEngine) -> None:
        """Send to rank 0; never blocks."""
        self._socket.send(ipc.encode(message))

    async def watch(self) -> str:
        """Return why this engine is broken, once it is."""
        limits = Limits.of(self._settings)
        while True:
            self._changed.clear()
            self.vitals.stalled_since = self._stalled_since()
            if reason := diagnose(self.vitals, limits, time.monotonic()):
                return reason
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CHECK_S):
                    await self._changed.wait()

    async def shut_down(self) -> None:
        """Ask the ranks to end by themselves, and wait a moment for it."""
        if self._process is not None and self.vitals.ready:
            self.send(ipc.Shutdown())
            await self._exited(self._process, _SHUTDOWN_S)

    async def end(self) -> None:
        """End whatever still runs, as a whole, and leave nothing behind. Safe to call twice."""
        if self._process is not None:
            await self._end_mpirun(self._process)
        await self._lines.end_ranks()
        self._lines.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._drain()
        self._context.destroy(linger=0)
        self._scratch.remove()

    async def _end_mpirun(self, process: asyncio.subprocess.Process) -> None:
        """Terminate it, so that it tears down remote ranks and its files; kill it if it hangs."""
        if process.returncode is None:
            process.terminate()
        if not await self._exited(process, _TERMINATE_S):
            process.kill()
            await process.wait()

    @staticmethod
    async def _exited(process: asyncio.subprocess.Process, seconds: float) -> bool:
        # Not wait_for: until Python 3.12 it may swallow a cancellation.
        try:
            async with asyncio.timeout(seconds):
                await process.wait()
        except TimeoutError:
            return False
        return True

    async def _receive(self) -> None:
        while True:
            self._take(await self._socket.recv())
            # A message that is there already is received without a pause: let its readers run, or
            # a fast engine fills their mailboxes as if they were slow.
            await asyncio.sleep(0)

    def _take(self, raw: bytes) -> None:
        message = ipc.decode_to_front(raw)
        if isinstance(message, ipc.EngineFailed):
            self.failure = message
        elif isinstance(message, ipc.Ready):
            self.vitals.ready = True
        self._on_message(message)

    def _drain(self) -> None:
        """Take what a rank managed to say before its end; outputs come too late to matter."""
        plain: zmq.Socket[bytes] = zmq.Socket.shadow(self._socket)
        with contextlib.suppress(zmq.Again):
            while raw := plain.recv(zmq.DONTWAIT):
                message = ipc.decode_to_front(raw)
                if isinstance(message, ipc.EngineFailed):
                    self.failure = message

    async def _await_exit(self, process: asyncio.subprocess.Process) -> None:
        self.vitals.exit_code = await process.wait()
        self._changed.set()
