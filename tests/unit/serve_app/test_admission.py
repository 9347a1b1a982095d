"""Waiting for one's turn: real tasks, no sleeping."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from contracts.errors import Code
from contracts.headers import Load
from serve_app.admission import Admission
from serve_app.errors import BusyError, RequestError, ServeAppError


class Crowd:
    """Requests as tasks; each holds its slot until told to end."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.inside: list[str] = []
        self._ends: dict[str, asyncio.Event] = {}

    async def request(self, name: str, timeout_s: float = 5, weight: float = 1) -> None:
        self._ends[name] = asyncio.Event()
        async with self._admission.admit(name[0], weight, timeout_s):
            self.inside.append(name)
            await self._ends[name].wait()
            self.inside.remove(name)

    def start(self, *names: str, timeout_s: float = 5) -> list[asyncio.Task[None]]:
        return [asyncio.create_task(self.request(name, timeout_s)) for name in names]

    async def end(self, name: str) -> None:
        self._ends[name].set()
        await settle()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@asynccontextmanager
async def crowd(slots: int, max_waiting: int) -> AsyncIterator[Crowd]:
    admission = Admission(slots, max_waiting, max_wait_s=5)
    before = asyncio.all_tasks()
    people = Crowd(admission)
    yield people
    left = asyncio.all_tasks() - before
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    assert (admission._queue.running, admission._queue.waiting) == (0, 0)
    assert admission._granted == {}


async def test_slots_go_round_between_tenants() -> None:
    async with crowd(slots=2, max_waiting=8) as people:
        people.start("a1", "a2", "a3", "a4")
        await settle()
        people.start("b1")
        await settle()
        assert people.inside == ["a1", "a2"]
        await people.end("a1")
        assert people.inside == ["a2", "b1"]
        await people.end("a2")
        assert people.inside == ["b1", "a3"]


async def test_a_flood_is_refused_at_once_and_pays_for_others() -> None:
    async with crowd(slots=1, max_waiting=2) as people:
        flood = people.start("a1", "a2", "a3", "a4")
        await settle()
        with pytest.raises(BusyError) as alone:
            await flood[3]
        assert (alone.value.code, alone.value.retry_after) == (Code.OVERLOADED, 1.0)
        people.start("b1")
        await settle()
        with pytest.raises(RequestError) as pushed:
            await flood[2]
        assert pushed.value.code == Code.RATE_LIMITED
        assert pushed.value.retry_after
        await people.end("a1")
        assert people.inside == ["b1"]


async def test_one_that_waits_too_long_is_refused() -> None:
    async with crowd(slots=1, max_waiting=2) as people:
        people.start("a1")
        await settle()
        (late,) = people.start("b1", timeout_s=0.01)
        with pytest.raises(ServeAppError) as refused:
            await late
        assert refused.value.code == Code.OVERLOADED
        people.start("b2")
        await people.end("a1")
        assert people.inside == ["b2"]


async def test_one_that_goes_away_leaves_no_trace() -> None:
    async with crowd(slots=1, max_waiting=8) as people:
        people.start("a1")
        gone, _ = people.start("b1", "b2")
        await settle()
        gone.cancel()
        await settle()
        await people.end("a1")
        assert people.inside == ["b2"]


async def test_one_that_goes_away_as_it_is_let_in_gives_its_slot_back() -> None:
    async with crowd(slots=1, max_waiting=8) as people:
        people.start("a1")
        gone, _ = people.start("b1", "c1")
        await settle()
        people._ends["a1"].set()
        await asyncio.sleep(0)  # a1 has ended and b1 been granted its slot, but b1 has not run
        gone.cancel()
        await settle()
        assert people.inside == ["c1"]


async def test_a_slot_for_one_that_is_already_going_goes_to_the_next() -> None:
    async with crowd(slots=1, max_waiting=8) as people:
        people.start("a1")
        gone, _ = people.start("b1", "c1")
        await settle()
        gone.cancel()
        people._ends["a1"].set()
        await settle()
        assert people.inside == ["c1"]


async def test_a_raised_limit_lets_in_at_once() -> None:
    admission = Admission(ceiling=64, max_waiting=64, max_wait_s=5)
    people = Crowd(admission)
    tasks = people.start(*(f"a{n}" for n in range(20)))
    await settle()
    assert len(people.inside) == 16
    admission.observe("llm", Load(running=18, waiting=0, in_flight=16, capacity=300))
    await settle()
    assert 16 < len(people.inside) <= 20
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_who_could_not_be_served_in_time_is_refused_before_waiting() -> None:
    async with crowd(slots=1, max_waiting=50) as people:
        people.start(*(f"a{n}" for n in range(10)))
        await settle()
        await asyncio.sleep(0.02)
        await people.end("a0")  # the pace is known now: one in 20 ms
        (late,) = people.start("ax", timeout_s=0.05)
        with pytest.raises(BusyError):
            await late
        assert late.exception() is not None
