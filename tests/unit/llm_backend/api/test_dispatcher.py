from __future__ import annotations

import asyncio

import pytest

from llm_backend.api.dispatcher import Dispatcher
from llm_backend.errors import (
    EngineRejectedError,
    NotReadyError,
    OverloadedError,
    SlowReaderError,
)
from llm_backend.runtime import ipc
from llm_backend.settings import LlmSettings

READY = ipc.Ready(100, 10, 16, "hash")


def submit(name: str) -> ipc.Submit:
    return ipc.Submit(name, [1], ipc.SamplingParams(), 5)


class Rig:
    """A dispatcher, and what it sent to the engine."""

    def __init__(self, **settings: int) -> None:
        limits = {"max_num_seqs": 2, "max_waiting": 1, "stream_buffer_tokens": 16, **settings}
        self.sent: list[ipc.ToEngine] = []
        self.dispatcher = Dispatcher(LlmSettings(**limits))  # type: ignore[arg-type]
        self.dispatcher.engine_up(READY, self.sent.append)

    def says(self, *outputs: ipc.Output) -> None:
        self.dispatcher.engine_says(ipc.Outputs(list(outputs)))


async def test_routes_outputs_to_their_request() -> None:
    rig = Rig()
    first, second = rig.dispatcher.submit([submit("a"), submit("b")]), None
    second = rig.dispatcher.submit([submit("c")])
    rig.says(ipc.Output("c", [3]), ipc.Output("b", [2], "stop"))
    assert await first.get() == [(1, ipc.Output("b", [2], "stop"))]
    assert await second.get() == [(0, ipc.Output("c", [3]))]
    assert rig.dispatcher.in_flight == 2


async def test_refuses_while_the_engine_is_not_there() -> None:
    with pytest.raises(NotReadyError) as caught:
        Dispatcher(LlmSettings()).submit([submit("a")])
    assert caught.value.retry_after_s


async def test_refuses_beyond_capacity() -> None:
    rig = Rig()
    rig.dispatcher.submit([submit("a"), submit("b")])
    with pytest.raises(OverloadedError) as caught:
        rig.dispatcher.submit([submit("c"), submit("d")])
    assert caught.value.retry_after_s
    rig.dispatcher.submit([submit("c")])


async def test_draining_refuses_and_waits() -> None:
    rig = Rig()
    rig.dispatcher.submit([submit("a")])
    rig.dispatcher.draining = True
    with pytest.raises(NotReadyError):
        rig.dispatcher.submit([submit("b")])
    drained = asyncio.create_task(rig.dispatcher.drained())
    await asyncio.sleep(0)
    assert not drained.done()
    rig.says(ipc.Output("a", [1], "length"))
    await asyncio.wait_for(drained, 1)


async def test_a_lost_engine_fails_what_is_open_after_what_came() -> None:
    rig = Rig()
    mailbox = rig.dispatcher.submit([submit("a")])
    rig.says(ipc.Output("a", [1]))
    rig.dispatcher.engine_down("rank 1 ended")
    assert await mailbox.get() == [(0, ipc.Output("a", [1]))]
    with pytest.raises(NotReadyError, match="rank 1 ended"):
        await mailbox.get()
    assert rig.dispatcher.in_flight == 0
    with pytest.raises(NotReadyError, match="rank 1 ended"):
        rig.dispatcher.submit([submit("b")])


async def test_rejection() -> None:
    rig = Rig()
    mailbox = rig.dispatcher.submit([submit("a")])
    rig.dispatcher.engine_says(ipc.Rejected("a", "deadline_exceeded", "Too late."))
    with pytest.raises(EngineRejectedError) as caught:
        await mailbox.get()
    assert caught.value.code == "deadline_exceeded"


async def test_cancel_reaches_the_engine_once() -> None:
    rig = Rig()
    rig.dispatcher.submit([submit("a")])
    rig.dispatcher.cancel(["a"])
    rig.dispatcher.cancel(["a"])
    rig.says(ipc.Output("a", [1]))  # was on its way: dropped
    assert rig.sent == [submit("a"), ipc.Cancel("a")]


async def test_a_slow_reader_is_cut_and_cancelled() -> None:
    rig = Rig()
    mailbox = rig.dispatcher.submit([submit("a")])
    for token in range(17):
        rig.says(ipc.Output("a", [token]))
    assert rig.sent[-1] == ipc.Cancel("a")
    assert len(await mailbox.get()) == 16
    with pytest.raises(SlowReaderError):
        await mailbox.get()


async def test_nobody_is_slow_to_read_a_whole_answer() -> None:
    rig = Rig()
    mailbox = rig.dispatcher.submit([submit("a")], streamed=False)
    for token in range(100):
        rig.says(ipc.Output("a", [token]))
    assert len(await mailbox.get()) == 100


async def test_stalled_only_while_work_waits() -> None:
    rig = Rig()
    assert rig.dispatcher.stalled_since() is None
    rig.dispatcher.submit([submit("a")])
    since = rig.dispatcher.stalled_since()
    assert since is not None
    rig.says()
    later = rig.dispatcher.stalled_since()
    assert later is not None
    assert later > since
    rig.says(ipc.Output("a", [1], "stop"))
    assert rig.dispatcher.stalled_since() is None
