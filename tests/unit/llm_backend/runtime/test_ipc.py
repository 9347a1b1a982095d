from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from llm_backend.runtime import ipc

SUBMIT = ipc.Submit(
    "a", [1, 2], ipc.SamplingParams(temperature=0.5, logit_bias=((3, 1.0),)), 9, deadline_s=2.0
)


@pytest.mark.parametrize("message", [SUBMIT, ipc.Cancel("a"), ipc.Shutdown()])
def test_to_engine(message: ipc.ToEngine) -> None:
    assert ipc.decode_to_engine(ipc.encode(message)) == message


@pytest.mark.parametrize(
    "message",
    [
        ipc.Outputs([ipc.Output("a", [1], "stop", 2, [ipc.TokenLogprob(-1.0, [(3, -2.0)])])]),
        ipc.Rejected("a", "deadline_exceeded", "Late."),
        ipc.Loading("loading", 10.0),
        ipc.Ready(10, 2, 16, "hash"),
        ipc.EngineFailed("No.", permanent=True),
    ],
)
def test_to_front(message: ipc.ToFront) -> None:
    assert ipc.decode_to_front(ipc.encode(message)) == message


def test_directions_do_not_mix() -> None:
    with pytest.raises(msgspec.ValidationError):
        ipc.decode_to_engine(ipc.encode(ipc.Loading("x", 1)))


def test_worker_arguments() -> None:
    arguments = ipc.WorkerArguments("ipc:///x", "/y", Path("/z"))
    assert ipc.WorkerArguments.parse(arguments.argv()) == arguments
    elsewhere = ipc.WorkerArguments("ipc:///x", "/y", Path("/z"), "10.0.0.1:99")
    assert ipc.WorkerArguments.parse(elsewhere.argv()) == elsewhere
