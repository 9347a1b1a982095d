"""Rank 0's loop: take what the front end sent, step, send what that brought."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import zmq

from llm_backend.engine.engine import Engine
from llm_backend.runtime import ipc


def serve(socket: zmq.Socket[bytes], engine: Engine[Any]) -> None:
    """Serve until `Shutdown`. Sleeps while there is no request.

    Messages are taken before every step, so a cancelled request is gone within one.
    """
    while True:
        for message in _received(socket, wait=not engine.has_work):
            if isinstance(message, ipc.Shutdown):
                return
            _handle(message, socket, engine)
        if engine.has_work:
            _send(socket, engine.step(), engine)


def _received(socket: zmq.Socket[bytes], *, wait: bool) -> Iterator[ipc.ToEngine]:
    """Yield all messages that are there; `wait` for a first one."""
    flags = 0 if wait else zmq.DONTWAIT
    while True:
        try:
            raw = socket.recv(flags)
        except zmq.Again:
            return
        yield ipc.decode_to_engine(raw)
        flags = zmq.DONTWAIT


def _handle(
    message: ipc.Submit | ipc.Cancel, socket: zmq.Socket[bytes], engine: Engine[Any]
) -> None:
    if isinstance(message, ipc.Cancel):
        engine.cancel(message.request_id)
    elif (rejected := engine.submit(message)) is not None:
        socket.send(ipc.encode(rejected))


def _send(
    socket: zmq.Socket[bytes], results: list[ipc.Output | ipc.Rejected], engine: Engine[Any]
) -> None:
    for result in results:
        if isinstance(result, ipc.Rejected):
            socket.send(ipc.encode(result))
    outputs = [result for result in results if isinstance(result, ipc.Output)]
    socket.send(ipc.encode(ipc.Outputs(outputs, engine.stats())))
