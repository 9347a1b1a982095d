"""Between HTTP requests and the engine: admission, routing of tokens, failure of what is open."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence

from llm_backend.errors import (
    EngineRejectedError,
    NotReadyError,
    OverloadedError,
    RequestError,
    SlowReaderError,
)
from llm_backend.runtime import ipc
from llm_backend.settings import LlmSettings

_NOT_READY_RETRY_S = 2
_RATE_WINDOW = 64


class Mailbox:
    """What the engine sent for the sequences of one HTTP request, until it is fetched.

    Args:
        capacity: outputs held before the reader counts as too slow; None for no limit but the
            request's own token limit.
    """

    def __init__(self, capacity: int | None) -> None:
        self._capacity = capacity
        self._outputs: list[tuple[int, ipc.Output]] = []
        self._failure: RequestError | None = None
        self._arrived: asyncio.Future[None] | None = None

    def put(self, index: int, output: ipc.Output) -> None:
        """Add what a step brought for sequence `index`."""
        if self._capacity is not None and len(self._outputs) >= self._capacity:
            self.fail(SlowReaderError("The client reads too slowly; its stream was cut."))
            return
        self._outputs.append((index, output))
        self._wake()

    def fail(self, failure: RequestError) -> None:
        """End the request with an error, after what has already come."""
        self._failure = self._failure or failure
        self._wake()

    @property
    def failed(self) -> bool:
        """Whether an error has ended the request."""
        return self._failure is not None

    async def get(self) -> list[tuple[int, ipc.Output]]:
        """Return what has come since the last call: (sequence's index, output) pairs.

        Raises:
            RequestError: the request cannot be finished.
        """
        while not self._outputs and self._failure is None:
            self._arrived = asyncio.get_running_loop().create_future()
            await self._arrived
        if not self._outputs and self._failure is not None:
            raise self._failure
        outputs, self._outputs = self._outputs, []
        return outputs

    def _wake(self) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)


class Dispatcher:
    """Admits requests, knows where each one's tokens go. Listens to the supervisor."""

    def __init__(self, settings: LlmSettings) -> None:
        self._settings = settings
        self._capacity = settings.max_num_seqs + settings.max_waiting
        self._send: Callable[[ipc.ToEngine], None] | None = None
        self._open: dict[str, tuple[Mailbox, int]] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._sign_at = 0.0
        self._why_not = "The engine is starting; try again soon."
        self._finished_at: deque[float] = deque(maxlen=_RATE_WINDOW)
        self.draining = False
        self.ready: ipc.Ready | None = None
        """What the engine said of itself; kept while it restarts."""
        self.stats = ipc.Stats()

    @property
    def in_flight(self) -> int:
        """Sequences admitted and not finished."""
        return len(self._open)

    def check_admission(self, sequences: int) -> None:
        """See whether `sequences` more would be admitted now.

        Raises:
            NotReadyError: the engine is not there, or the service is ending.
            OverloadedError: the queue is full.
        """
        if self.draining:
            raise NotReadyError("This replica is shutting down; try again.", None, 1)
        if self._send is None:
            raise NotReadyError(self._why_not, None, _NOT_READY_RETRY_S)
        if len(self._open) + sequences > self._capacity:
            raise OverloadedError(
                f"{len(self._open)} sequences are running or queued and {self._capacity} are "
                "allowed; try again later.",
                None,
                self._retry_after_s(),
            )

    def submit(self, requests: Sequence[ipc.Submit], *, streamed: bool = True) -> Mailbox:
        """Send the sequences of one HTTP request to the engine.

        Args:
            streamed: whether a client reads along, who may be too slow.

        Raises:
            NotReadyError: as for `check_admission`.
            OverloadedError: likewise.
        """
        self.check_admission(len(requests))
        assert self._send is not None  # noqa: S101  (check_admission saw to it)
        if not self._open:
            self._sign_at = time.monotonic()
            self._idle.clear()
        mailbox = Mailbox(self._settings.stream_buffer_tokens if streamed else None)
        for index, request in enumerate(requests):
            self._open[request.request_id] = (mailbox, index)
            self._send(request)
        return mailbox

    def cancel(self, request_ids: Sequence[str]) -> None:
        """Forget sequences; those that have finished are passed over."""
        for request_id in request_ids:
            if self._close(request_id) is not None and self._send is not None:
                self._send(ipc.Cancel(request_id))

    async def drained(self) -> None:
        """Return when nothing is in flight."""
        await self._idle.wait()

    def fail_all(self, message: str) -> None:
        """Answer everything in flight with a retryable error."""
        for mailbox, _ in self._open.values():
            mailbox.fail(NotReadyError(message, None, _NOT_READY_RETRY_S))
        for request_id in list(self._open):
            self._close(request_id)

    # What the supervisor tells.

    def engine_up(self, ready: ipc.Ready, send: Callable[[ipc.ToEngine], None]) -> None:
        """Requests may be sent from now on."""
        self.ready, self._send = ready, send

    def engine_down(self, reason: str) -> None:
        """Fail all that the engine was working on."""
        self._send = None
        self.stats = ipc.Stats()
        self._why_not = f"The engine is restarting ({reason}); try again."
        self.fail_all(f"The engine failed while answering ({reason}); try again.")

    def engine_says(self, message: ipc.Outputs | ipc.Rejected) -> None:
        """Pass outputs on to whom they belong to. Late ones of cancelled requests are dropped."""
        self._sign_at = time.monotonic()
        if isinstance(message, ipc.Rejected):
            if (found := self._close(message.request_id)) is not None:
                found[0].fail(EngineRejectedError(message.code, message.message))
            return
        self.stats = message.stats
        for output in message.outputs:
            self._route(output)

    def stalled_since(self) -> float | None:
        """Return since when work waits without a sign of rank 0."""
        return self._sign_at if self._open else None

    def _route(self, output: ipc.Output) -> None:
        found = self._open.get(output.request_id)
        if found is None:
            return
        mailbox, index = found
        mailbox.put(index, output)
        if output.finish_reason is not None:
            self._close(output.request_id)
        elif mailbox.failed:
            self.cancel([output.request_id])

    def _close(self, request_id: str) -> tuple[Mailbox, int] | None:
        found = self._open.pop(request_id, None)
        if found is not None:
            self._finished_at.append(time.monotonic())
        if not self._open:
            self._idle.set()
        return found

    def _retry_after_s(self) -> int:
        """Guess when a place is free: from the pace at which the last requests ended."""
        if len(self._finished_at) < 2:
            return 1
        span = time.monotonic() - self._finished_at[0]
        excess = max(1, len(self._open) - self._settings.max_num_seqs)
        return min(60, max(1, math.ceil(span / len(self._finished_at) * excess / 2)))
