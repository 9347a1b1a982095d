"""A time by which any number of waits have to be over, with one timer for all of them.

`asyncio.timeout_at` around the wait for each token of a stream sets and cancels a timer each.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any


class Deadline:
    """Ends each block `with deadline:` at the event loop's time `at`, one block at a time.

    A block that lasts longer is cancelled, and raises TimeoutError, as one that begins later does.
    """

    def __init__(self, at: float) -> None:
        """Set the timer, which `close` stops."""
        self._timer = asyncio.get_running_loop().call_at(at, self._pass)
        self._passed = False
        self._waiting: asyncio.Task[Any] | None = None
        self._requests = 0

    @property
    def left_s(self) -> float:
        """Seconds until it passes."""
        return self._timer.when() - asyncio.get_running_loop().time()

    def close(self) -> None:
        """Let the time pass without a consequence."""
        self._timer.cancel()

    def __enter__(self) -> None:
        if self._passed:
            raise TimeoutError
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - coroutines run in tasks
        self._waiting, self._requests = task, task.cancelling()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        task, self._waiting = self._waiting, None
        # As `asyncio.timeout`: the cancellation is ours unless others asked for one too.
        if not self._passed or task is None:
            return
        if task.uncancel() <= self._requests and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _pass(self) -> None:
        self._passed = True
        if self._waiting is not None:
            self._waiting.cancel()
