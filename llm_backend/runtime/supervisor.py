"""Keeps one engine running: starts it, watches it, ends it as a whole, starts it again.

    starting ──ready──> ready ──broken──> down ──backoff──> starting ...

Whatever breaks one rank ends all of them: they hold parts of one model and wait for each other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from llm_backend.errors import EngineStartError, StartupError
from llm_backend.runtime import ipc
from llm_backend.runtime.backoff import Backoff
from llm_backend.runtime.incarnation import Incarnation
from llm_backend.runtime.launch import WORKER
from llm_backend.settings import LlmSettings

_MOST_FIRST_STARTS = 3
"""An engine that fails this often before it was ever ready will not be ready by trying again."""

log = logging.getLogger(__name__)


class State(StrEnum):
    """Where the engine is in its life."""

    STARTING = "starting"
    READY = "ready"
    DOWN = "down"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Status:
    """What `/readyz` tells of the engine.

    Attributes:
        phase: what a starting engine does now.
        percent: how much of its start is done.
        since: monotonic time at which this start began.
        reason: why the engine is down, or was before this start.
    """

    state: State
    phase: str = ""
    percent: float = 0.0
    since: float = 0.0
    reason: str = ""
    restarts: int = 0

    def eta_s(self, now: float) -> float | None:
        """Return the seconds that the start will still take, by its pace so far."""
        if self.state is not State.STARTING or not 0 < self.percent < 100:
            return None
        return (now - self.since) * (100 - self.percent) / self.percent


class Listener(Protocol):
    """Who uses the engine."""

    def engine_up(self, ready: ipc.Ready, send: Callable[[ipc.ToEngine], None]) -> None:
        """Requests may be sent from now on."""

    def engine_down(self, reason: str) -> None:
        """The engine is gone, and with it all that it was working on."""

    def engine_says(self, message: ipc.Outputs | ipc.Rejected) -> None:
        """Rank 0 sent something about requests."""

    def stalled_since(self) -> float | None:
        """Return since when (monotonic) requests wait without any output; None if none do."""


class Supervisor:
    """Runs the engine until it is told to stop.

    Args:
        listener: is told of readiness, outputs and failures.
        mpirun: the program that starts ranks.
        worker: the program that is a rank.
    """

    def __init__(
        self,
        settings: LlmSettings,
        listener: Listener,
        mpirun: Path,
        worker: Sequence[str] = WORKER,
    ) -> None:
        self._settings = settings
        self._listener = listener
        self._mpirun = mpirun
        self._worker = worker
        self._engine: Incarnation | None = None
        self._was_ready = False
        self._stop = asyncio.Event()
        self.running = False
        """Whether `run` has been called."""
        self.status = Status(State.STARTING, "preparing the model", since=time.monotonic())

    async def run(self, model_dir: Path) -> None:
        """Keep the engine running until `stop`; it is gone at the end, ranks and all.

        Raises:
            EngineStartError: the engine cannot run this model with these settings, or has failed
                several times without ever being ready.
        """
        backoff = Backoff(self._settings.restart_backoff_s, self._settings.restart_backoff_max_s)
        failures = 0
        self.running = True
        while not self._stop.is_set():
            began = time.monotonic()
            reason = await self._live_once(model_dir)
            if self._stop.is_set():
                return
            failures += 1
            if not self._was_ready and failures >= _MOST_FIRST_STARTS:
                raise EngineStartError(f"The engine failed {failures} times to start: {reason}.")
            pause = backoff.after(time.monotonic() - began)
            log.error("Engine ended: %s. Starting it again in %.1f s.", reason, pause)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stop.wait()

    def preparing(self, phase: str, percent: float) -> None:
        """Report how far the model's files are; may be called from another thread.

        Raises:
            StartupError: the service ends, so that they are of no use.
        """
        if self._stop.is_set():
            raise StartupError("The service is shutting down.")
        self._set(self.status.state, phase=phase, percent=percent)

    def drain(self) -> None:
        """Report from now on that no new requests are wanted."""
        self.status = replace(self.status, state=State.DRAINING)

    def stop(self) -> None:
        """Have `run` end the engine and return."""
        self._stop.set()

    async def _live_once(self, model_dir: Path) -> str:
        """Start an engine and return why it ended."""
        restarts = self.status.restarts
        self._set(State.STARTING, phase="launching mpirun", since=time.monotonic(), percent=0.0)
        engine = Incarnation(
            self._settings, self._mpirun, self._worker, self._hear, self._listener.stalled_since
        )
        self._engine = engine
        try:
            await engine.start(model_dir)
            reason = await self._until_broken(engine)
            # Before the engine is ended, which can take seconds: clients should not wait for it.
            self._go_down(reason, restarts + 1)
            if self._stop.is_set():
                await engine.shut_down()
        finally:
            await engine.end()
            self._engine = None
        return self._explain(reason, engine.failure)

    async def _until_broken(self, engine: Incarnation) -> str:
        """Return why the engine is broken, or is to be ended."""
        watch = asyncio.create_task(engine.watch())
        stop = asyncio.create_task(self._stop.wait())
        await asyncio.wait({watch, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not watch.done():
            watch.cancel()
            return "the service is shutting down"
        return watch.result()

    def _go_down(self, reason: str, restarts: int) -> None:
        self._engine = None  # what it still says while it is ended comes too late
        self._set(State.DOWN, reason=reason, restarts=restarts)
        self._listener.engine_down(reason)

    def _explain(self, reason: str, failure: ipc.EngineFailed | None) -> str:
        """Prefer what a rank said of its end to what was seen of it."""
        if failure is None:
            return reason
        if failure.permanent:
            raise EngineStartError(failure.message)
        self._set(self.status.state, reason=failure.message)
        return failure.message.rstrip(".")

    def _hear(self, message: ipc.ToFront) -> None:
        if self._engine is None:
            return
        if isinstance(message, ipc.Outputs | ipc.Rejected):
            self._listener.engine_says(message)
        elif isinstance(message, ipc.Loading):
            self._set(State.STARTING, phase=message.phase, percent=message.percent)
        elif isinstance(message, ipc.Ready):
            self._was_ready = True
            self._set(State.READY, phase="", percent=100.0, reason="")
            self._listener.engine_up(message, self._engine.send)

    def _set(self, state: State, **changes: Any) -> None:
        """Change the status; draining is final."""
        if self.status.state is State.DRAINING:
            state = State.DRAINING
        self.status = replace(self.status, state=state, **changes)
