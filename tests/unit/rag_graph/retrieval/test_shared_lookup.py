"""Lookups are shared, and never with who asked after they began."""

from __future__ import annotations

import asyncio

import pytest

from rag_graph.retrieval.shared_lookup import SharedLookup


class Source:
    """Answers with how often it was asked, when it is let."""

    def __init__(self) -> None:
        self.asked = 0
        self.began = asyncio.Event()
        self.let = asyncio.Event()
        self.broken = False

    async def look_up(self) -> int:
        self.asked += 1
        answer = self.asked
        self.began.set()
        await self.let.wait()
        if self.broken:
            raise OSError("broken")
        return answer


async def test_those_who_ask_at_once_share_one() -> None:
    source = Source()
    source.let.set()
    lookup = SharedLookup(source.look_up)

    assert await asyncio.gather(*(lookup() for _ in range(5))) == [1] * 5
    assert await lookup() == 2


async def test_who_asks_later_shares_the_next() -> None:
    source = Source()
    lookup = SharedLookup(source.look_up)
    first = asyncio.create_task(lookup())
    await source.began.wait()
    later = [asyncio.create_task(lookup()) for _ in range(3)]
    await asyncio.sleep(0)
    assert source.asked == 1

    source.let.set()

    assert [await first, *await asyncio.gather(*later)] == [1, 2, 2, 2]


async def test_who_goes_away_takes_nobody_along() -> None:
    source = Source()
    lookup = SharedLookup(source.look_up)
    waiting = [asyncio.create_task(lookup()) for _ in range(2)]
    await source.began.wait()
    waiting[0].cancel()
    source.let.set()

    assert await waiting[1] == 1
    assert (await asyncio.gather(waiting[0], return_exceptions=True))[0] is not None
    assert waiting[0].cancelled()


async def test_a_failure_is_everybodys_and_the_next_one_is_new() -> None:
    source = Source()
    source.broken = True
    source.let.set()
    lookup = SharedLookup(source.look_up)

    failed = await asyncio.gather(lookup(), lookup(), return_exceptions=True)
    assert [str(error) for error in failed] == ["broken"] * 2
    with pytest.raises(OSError, match="broken"):
        await lookup()
    source.broken = False
    assert await lookup() == 3
