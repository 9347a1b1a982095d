"""Lifelines over TCP, for ranks on other hosts; those of this host are in the service's tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from llm_backend.runtime.health import RankVitals
from llm_backend.runtime.rank_lines import RankLines

BEAT = b'{"rank": 1, "pid": 77, "step": 5}\n'


class Vitals(dict[int, RankVitals]):
    """Tells when a rank is heard for the first time."""

    def __init__(self) -> None:
        super().__init__()
        self.heard = asyncio.Event()

    def __setitem__(self, rank: int, seen: RankVitals) -> None:
        super().__setitem__(rank, seen)
        self.heard.set()


class Supervised:
    def __init__(self) -> None:
        self.vitals = Vitals()
        self.lost = asyncio.Event()
        self.lines = RankLines(self.vitals, self.lost.set)
        self.remote = ""

    async def rank(self, token: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, _, port = self.remote.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(token.encode() + b"\n")
        return reader, writer


@pytest.fixture
async def supervised() -> AsyncIterator[Supervised]:
    made = Supervised()
    made.remote = await made.lines.listen_remote("127.0.0.1")
    yield made
    made.lines.close()


async def test_a_rank_elsewhere_is_heard(supervised: Supervised) -> None:
    _, writer = await supervised.rank(supervised.lines.token)
    writer.write(BEAT)
    writer.close()
    async with asyncio.timeout(5):
        await supervised.lost.wait()
    assert (supervised.vitals[1].pid, supervised.vitals[1].step) == (77, 5)
    assert supervised.vitals[1].lost


async def test_a_stranger_is_hung_up_on(supervised: Supervised) -> None:
    reader, writer = await supervised.rank("0" * 32)
    writer.write(BEAT)
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    assert supervised.vitals == {}
    writer.close()


async def test_ending_hangs_up_and_waits_until_the_rank_has_too(supervised: Supervised) -> None:
    reader, writer = await supervised.rank(supervised.lines.token)
    writer.write(BEAT)
    await writer.drain()
    await asyncio.wait_for(supervised.vitals.heard.wait(), 5)
    ending = asyncio.create_task(supervised.lines.end_ranks())
    async with asyncio.timeout(5):
        assert await reader.read() == b""  # as a rank sees it, which then ends itself
        assert not ending.done()
        writer.close()
        await ending
