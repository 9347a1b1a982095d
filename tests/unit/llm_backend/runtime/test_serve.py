from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest
import zmq

from llm_backend.engine.engine import Engine
from llm_backend.runtime import ipc
from llm_backend.runtime.serve import serve


class CountingEngine:
    """Answers each request with its prompt's first token until it is cancelled."""

    def __init__(self) -> None:
        self.requests: dict[str, ipc.Submit] = {}

    @property
    def has_work(self) -> bool:
        return bool(self.requests)

    def submit(self, request: ipc.Submit) -> ipc.Rejected | None:
        if not request.prompt_ids:
            return ipc.Rejected(request.request_id, "invalid_request", "empty")
        self.requests[request.request_id] = request
        return None

    def cancel(self, request_id: str) -> None:
        self.requests.pop(request_id, None)

    def step(self) -> list[ipc.Output | ipc.Rejected]:
        return [ipc.Output(name, r.prompt_ids[:1]) for name, r in self.requests.items()]

    def stats(self) -> ipc.Stats:
        return ipc.Stats(running=len(self.requests))


@pytest.fixture
def link() -> Iterator[zmq.Socket[bytes]]:
    """The front end's socket; at its other end a loop serves a `CountingEngine`."""
    with zmq.Context() as context:
        front, back = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
        front.bind("inproc://engine")
        back.connect("inproc://engine")
        engine = cast("Engine[Any]", CountingEngine())
        thread = threading.Thread(target=serve, args=(back, engine))
        thread.start()
        with front, back:
            yield front
            front.send(ipc.encode(ipc.Shutdown()))
            thread.join(10)
            assert not thread.is_alive()


def submit(link: zmq.Socket[bytes], name: str, prompt: list[int]) -> None:
    link.send(ipc.encode(ipc.Submit(name, prompt, ipc.SamplingParams(), 5)))


def receive(link: zmq.Socket[bytes]) -> ipc.ToFront:
    assert link.poll(10_000), "nothing came"
    return ipc.decode_to_front(link.recv())


def test_every_step_is_one_message(link: zmq.Socket[bytes]) -> None:
    submit(link, "a", [4])

    for _ in range(3):
        message = receive(link)
        assert message == ipc.Outputs([ipc.Output("a", [4])], ipc.Stats(running=1))


def test_a_request_that_cannot_run_is_answered_at_once(link: zmq.Socket[bytes]) -> None:
    submit(link, "a", [])

    assert receive(link) == ipc.Rejected("a", "invalid_request", "empty")


def test_a_cancelled_request_falls_silent(link: zmq.Socket[bytes]) -> None:
    submit(link, "a", [4])
    receive(link)
    link.send(ipc.encode(ipc.Cancel("a")))
    submit(link, "b", [5])

    names: list[list[str]] = []
    while names[-1:] != [["b"]]:
        message = receive(link)
        assert isinstance(message, ipc.Outputs)
        names.append([o.request_id for o in message.outputs])
    assert len(names) < 1000
