from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from llm_backend.api.texts import Texts
from llm_backend.errors import OverloadedError

MIB = 2**20


@pytest.fixture
def texts() -> Iterator[Texts]:
    made = Texts()
    yield made
    made.close()


async def test_short_work_is_done_at_once_and_long_work_in_a_thread_of_its_own(
    texts: Texts,
) -> None:
    here = threading.current_thread().name
    assert await texts.work(lambda: threading.current_thread().name, 1000) == here
    assert (await texts.work(lambda: threading.current_thread().name, MIB)).startswith("texts")


async def test_what_waits_is_bounded_and_the_default_executor_stays_free(texts: Texts) -> None:
    go = threading.Event()
    working = [asyncio.create_task(texts.work(go.wait, 4 * MIB)) for _ in range(4)]
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError) as caught:
        await texts.work(go.wait, MIB)
    assert caught.value.retry_after_s == 8
    assert await texts.work(lambda: 1, 100) == 1
    assert await asyncio.to_thread(lambda: 2) == 2
    go.set()
    assert await asyncio.gather(*working) == [True] * 4
    assert await texts.work(lambda: 3, MIB) == 3


async def test_a_failure_gives_its_bytes_back(texts: Texts) -> None:
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            await texts.work(lambda: 1 // 0, 12 * MIB)


async def test_one_text_of_any_size_is_taken(texts: Texts) -> None:
    assert await texts.work(lambda: 1, 100 * MIB) == 1
