"""How far a rank is: its start for the front end, its steps for the supervisor."""

from __future__ import annotations

import zmq

from llm_backend.runtime import ipc


class Progress:
    """Reports the phases of the start, and counts the steps finished since.

    Args:
        socket: to the front end; None on the ranks that do not speak to it.
    """

    def __init__(self, socket: zmq.Socket[bytes] | None) -> None:
        self._socket = socket
        self.steps = 0

    def report(self, phase: str, percent: float) -> None:
        """Tell the front end what is going on, and how much of the start is done."""
        if self._socket is not None:
            self._socket.send(ipc.encode(ipc.Loading(phase, percent)))
