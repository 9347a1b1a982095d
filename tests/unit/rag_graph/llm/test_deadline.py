"""Waits that a deadline ends, against cancellations that others ask for."""

from __future__ import annotations

import asyncio

import pytest

from rag_graph.llm.deadline import Deadline


def in_s(seconds: float) -> Deadline:
    return Deadline(asyncio.get_running_loop().time() + seconds)


async def test_a_wait_that_lasts_too_long_is_ended() -> None:
    deadline = in_s(0.01)
    with pytest.raises(TimeoutError), deadline:
        await asyncio.sleep(10)
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


async def test_no_wait_begins_after_it() -> None:
    deadline = in_s(0)
    await asyncio.sleep(0.01)
    with pytest.raises(TimeoutError), deadline:
        raise AssertionError("it was let in")


async def test_it_does_not_end_what_goes_on_between_the_waits() -> None:
    deadline = in_s(0.01)
    with deadline:
        await asyncio.sleep(0)
    await asyncio.sleep(0.02)
    with pytest.raises(TimeoutError), deadline:
        pass


async def test_it_has_no_consequence_once_it_is_closed() -> None:
    deadline = in_s(0.01)
    deadline.close()
    with deadline:
        await asyncio.sleep(0.02)


async def test_a_cancellation_by_others_remains_one() -> None:
    async def wait() -> None:
        with in_s(0.01):
            await asyncio.sleep(10)

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_at_the_same_time_wins() -> None:
    deadline = in_s(0)  # due right after the next step of this test

    async def wait() -> None:
        with deadline:
            await asyncio.sleep(10)

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    with pytest.raises(TimeoutError), deadline:
        raise AssertionError("the time has not passed")
    assert task.cancelled()


async def test_a_failure_in_a_wait_remains_one() -> None:
    deadline = in_s(10)
    with pytest.raises(KeyError), deadline:
        raise KeyError
    deadline.close()
