"""Dropped streams that are taken up again: on Ray Serve, and between replicas over a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing

import pytest
from redis.asyncio import Redis

from contracts import sse
from contracts.sse import Decoder, Event
from contracts.streaming import ChatFrames
from serve_app.errors import RequestError, UnavailableError
from serve_app.resume import Frames, Streams
from serve_app.resume.said import Said
from serve_app.settings import ServeSettings
from tests.integration.serve_app.conftest import MockProcess
from tests.integration.serve_app.test_gateway import ASK
from tests.support import redis
from tests.support.processes import free_port
from tests.support.serve import Gateway
from tests.unit.serve_app.resume.test_streams import Source, never

PATH = "/v1/chat/completions"
needs_redis = pytest.mark.skipif(
    redis.PROGRAM is None, reason="no redis-server; on Debian: apt-get install redis-server"
)


def test_a_client_that_hangs_up_gets_the_rest(served: Gateway, mock: MockProcess) -> None:
    with mock.running(tokens_per_s=20, answer_tokens=40), served.http() as http:
        whole = received(http.post(PATH, json={**ASK, "stream": True}).content)
        first: list[Event] = []
        sent = {"x-isthmus-resumable": "true"}
        with http.stream("POST", PATH, json={**ASK, "stream": True}, headers=sent) as response:
            decoder = Decoder()
            for chunk in response.iter_bytes():
                first += decoder.feed(chunk)
                if len(first) > 5:
                    break
        assert mock.generating() == 1
        last = {"last-event-id": first[-1].id or ""}
        rest = received(http.get(f"{PATH}/events", headers=last).content)
    assert len(whole) == len(first) + len(rest) == 43
    assert [e.id for e in first + rest] == [f"{answer_of(first[0])}.{n + 1}" for n in range(43)]
    assert said(first + rest) == said(whole)


def test_the_official_client_takes_no_notice_of_ids(served: Gateway, mock: MockProcess) -> None:
    with mock.running():
        stream = served.openai().chat.completions.create(
            **ASK,  # type: ignore[call-overload]
            stream=True,
            extra_headers={"x-isthmus-resumable": "true"},
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert "sku=gpu:NoSchedule" in text


def received(content: bytes) -> list[Event]:
    return list(Decoder().feed(content))


def answer_of(event: Event) -> str:
    return (event.id or "").rpartition(".")[0]


def said(events: list[Event]) -> str:
    return "".join(e.data.partition('"content": ')[2].partition("}")[0] for e in events)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    assert redis.PROGRAM is not None
    with redis.server(redis.PROGRAM) as address:
        yield address


@pytest.fixture
async def replicas(url: str) -> AsyncIterator[tuple[Streams, Streams]]:
    """Two gateways' streams over one Redis."""
    settings = ServeSettings(redis_url=url, resume_window_s=1)  # type: ignore[arg-type]
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(aclosing(Streams(settings)))
        second = await stack.enter_async_context(aclosing(Streams(settings)))
        yield first, second


async def continued(streams: Streams, tenant: str, seen: str) -> Frames:
    """Return the rest of an answer whose first frames may be on their way to Redis yet."""
    async with asyncio.timeout(5):
        while True:
            try:
                return await streams.resume(tenant, seen, never)
            except RequestError:
                await asyncio.sleep(0.01)


@needs_redis
async def test_another_replica_continues(replicas: tuple[Streams, Streams]) -> None:
    here, there = replicas
    source = Source()
    reader = here.keep("acme", "a", source.frames(), b"asked")
    assert reader is not None
    source.send(b"1", b"2")
    assert [await anext(reader), await anext(reader)] == [b"1", b"2"]
    await reader.aclose()
    rest = await continued(there, "acme", "a.1")
    assert await anext(rest) == b"2"
    await asyncio.sleep(2.2)  # longer than the window: what is read elsewhere goes on
    source.send(b"3", None)
    assert [frame async for frame in rest] == [b"3"]
    again = await there.resume("acme", "a.0", never)
    assert [frame async for frame in again] == [b"1", b"2", b"3"]
    for tenant, seen in (("zeta", "a.1"), ("acme", "b.1")):
        with pytest.raises(RequestError):
            await there.resume(tenant, seen, never)


@needs_redis
async def test_nothing_stays_in_redis(replicas: tuple[Streams, Streams], url: str) -> None:
    here, there = replicas
    source = Source()
    reader = here.keep("tidy", "a", source.frames(), b"asked")
    assert reader is not None
    source.send(b"1")
    await anext(reader)
    rest = await continued(there, "tidy", "a.0")
    assert await anext(rest) == b"1"
    await rest.aclose()
    await reader.aclose()
    async with asyncio.timeout(15):
        await source.closed.wait()
    async with Redis.from_url(url) as client:
        left = {key: await client.ttl(key) async for key in client.scan_iter("isthmus:*tidy*")}
    assert all(0 <= seconds <= 10 for seconds in left.values()), left


CHUNKS = ChatFrames("dead", 1, "isthmus")


@needs_redis
async def test_what_a_dead_replica_began_is_made_anew(replicas: tuple[Streams, Streams]) -> None:
    here, there = replicas
    source, anew = Source(), Source()
    made: list[tuple[bytes, Said]] = []

    def again(asked: bytes, said: Said) -> Frames:
        made.append((asked, said))
        return anew.frames()

    begun = [CHUNKS.role(), CHUNKS.content("The taint"), CHUNKS.content(" is")]
    reader = here.keep("acme", "dead", source.frames(), b"asked")
    assert reader is not None
    source.send(*begun)
    assert [await anext(reader) for _ in begun] == begun
    rest = await there.resume("acme", "dead.2", again)
    late = await there.resume("acme", "dead.0", never)
    assert await anext(rest) == begun[2], "what was read is in Redis"
    await here.aclose()  # its mark is not renewed
    end = [CHUNKS.content(" sku=gpu."), CHUNKS.finish("stop"), sse.DONE_FRAME]
    anew.send(*end, None)
    async with asyncio.timeout(15):
        assert [frame async for frame in rest] == end
    assert made == [(b"asked", Said(3, "The taint is"))]
    async with asyncio.timeout(15):
        assert [frame async for frame in late] == begun + end
    third = await there.resume("acme", "dead.5", never)
    assert [frame async for frame in third] == end[2:]


@needs_redis
async def test_what_was_whole_is_not_made_anew(replicas: tuple[Streams, Streams]) -> None:
    """Its replica died before it could say that no frame follows."""
    here, there = replicas
    source = Source()
    reader = here.keep("acme", "whole", source.frames(), b"asked")
    assert reader is not None
    source.send(CHUNKS.role(), sse.DONE_FRAME)
    assert [await anext(reader), await anext(reader)] == [CHUNKS.role(), sse.DONE_FRAME]
    await here.aclose()
    rest = await there.resume("acme", "whole.1", never)
    async with asyncio.timeout(15):
        assert [frame async for frame in rest] == [sse.DONE_FRAME]


@needs_redis
async def test_without_redis_the_replica_itself_still_continues() -> None:
    gone = f"redis://127.0.0.1:{free_port()}/0"
    settings = ServeSettings(redis_url=gone, resume_window_s=1)  # type: ignore[arg-type]
    async with aclosing(Streams(settings)) as streams:
        source = Source()
        reader = streams.keep("acme", "a", source.frames(), b"asked")
        assert reader is not None
        source.send(b"1", b"2", None)
        assert await anext(reader) == b"1"
        await reader.aclose()
        assert [frame async for frame in await streams.resume("acme", "a.1", never)] == [b"2"]
        with pytest.raises(UnavailableError, match="SERVE_REDIS_URL"):
            await streams.resume("acme", "other.1", never)


async def test_a_silent_redis_delays_one_answer_by_a_moment() -> None:
    held = asyncio.Event()

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await held.wait()
        writer.close()

    async def first_frame(streams: Streams, name: str) -> float:
        source, begun = Source(), asyncio.get_running_loop().time()
        reader = streams.keep("acme", name, source.frames(), b"asked")
        assert reader is not None
        source.send(b"1", None)
        assert [frame async for frame in reader] == [b"1"]
        return asyncio.get_running_loop().time() - begun

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        url = f"redis://127.0.0.1:{port}/0"
        settings = ServeSettings(redis_url=url, resume_window_s=1)  # type: ignore[arg-type]
        async with aclosing(Streams(settings)) as streams:
            assert 0.9 < await first_frame(streams, "a") < 3
            assert await first_frame(streams, "b") < 0.5
        held.set()


@needs_redis
async def test_another_replica_stops_it(replicas: tuple[Streams, Streams]) -> None:
    here, there = replicas
    source = Source()
    reader = here.keep("acme", "long", source.frames(), b"asked")
    assert reader is not None
    source.send(b"1")
    await anext(reader)
    await continued(there, "acme", "long.0")
    with pytest.raises(RequestError):
        await there.stop("zeta", "long")
    await there.stop("acme", "long")
    async with asyncio.timeout(15):
        await source.closed.wait()
