"""Streams that are taken up again: over fakes, with one replica's memory."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import httpx
import pytest

from contracts.openai import ChatCompletionChunk
from contracts.sse import DONE, Decoder, Event
from serve_app.api import create_api
from serve_app.auth import Key, Keys
from serve_app.errors import RequestError
from serve_app.resume import Frames, Streams
from serve_app.resume.said import Said
from serve_app.settings import ServeSettings
from tests.unit.serve_app.conftest import Fakes

BODY = {"model": "isthmus", "messages": [{"role": "user", "content": "Which?"}], "stream": True}
ASKED = {"x-isthmus-resumable": "true"}
PATH = "/v1/chat/completions"
RESUME = f"{PATH}/events"


@pytest.fixture
def keys() -> Keys:
    rights = {"rights": ["ask"], "collections": ["*"]}
    hashes = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("acme", "zeta")}
    given = [{"sha256": sha256, "tenant": name, **rights} for name, sha256 in hashes.items()]
    return Keys(tuple(Key.model_validate(one) for one in given))


def by(tenant: str, **extra: str) -> dict[str, str]:
    return {"authorization": f"Bearer {tenant}", **extra}


def events(response: httpx.Response) -> list[Event]:
    return list(Decoder().feed(response.content))


def text(found: list[Event]) -> str:
    chunks = [ChatCompletionChunk.model_validate_json(e.data) for e in found if e.data != DONE]
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


async def test_every_event_has_an_id_and_the_tail_is_replayed(client: httpx.AsyncClient) -> None:
    first = await client.post(PATH, json=BODY, headers=by("acme", **ASKED))
    assert first.headers["x-isthmus-resumable"] == "60"
    whole = events(first)
    answer = ChatCompletionChunk.model_validate_json(whole[0].data).id
    assert [event.id for event in whole] == [f"{answer}.{n + 1}" for n in range(len(whole))]
    for seen, event in enumerate(whole, 1):
        rest = await client.get(RESUME, headers=by("acme", **{"last-event-id": event.id or ""}))
        assert (rest.status_code, events(rest)) == (200, whole[seen:])
    again = await client.post(
        PATH, json=BODY, headers=by("acme", **{"last-event-id": f"{answer}.0"})
    )
    assert events(again) == whole


@pytest.mark.parametrize("seen", ["ID.x", "ID", "", "other.1", ".1", "ID.-1", "ID.99999999999999"])
async def test_what_is_not_there_is_not_found(client: httpx.AsyncClient, seen: str) -> None:
    whole = events(await client.post(PATH, json=BODY, headers=by("acme", **ASKED)))
    answer = (whole[0].id or "").rpartition(".")[0]
    sent = by("acme", **{"last-event-id": seen.replace("ID", answer)})
    assert (await client.get(RESUME, headers=sent)).status_code == 404


async def test_another_tenants_answer_is_not_found(client: httpx.AsyncClient) -> None:
    whole = events(await client.post(PATH, json=BODY, headers=by("acme", **ASKED)))
    for tenant, status in (("zeta", 404), ("nobody", 401), ("acme", 200)):
        sent = by(tenant, **{"last-event-id": whole[0].id or ""})
        assert (await client.get(RESUME, headers=sent)).status_code == status
        assert (await client.post(PATH, json=BODY, headers=sent)).status_code == status


async def test_an_answer_that_was_not_asked_for_as_resumable_is_not_kept(
    client: httpx.AsyncClient,
) -> None:
    plain = await client.post(PATH, json=BODY, headers=by("acme"))
    assert "x-isthmus-resumable" not in plain.headers
    sent = by("acme", **{"last-event-id": events(plain)[0].id or ""})
    refused = await client.get(RESUME, headers=sent)
    assert refused.status_code == 404
    assert "resumable" in refused.json()["error"]["message"]


@pytest.mark.parametrize(("word", "streamed"), [("1", True), ("", True), ("true", False)])
async def test_asking_for_it_wrongly_is_refused(
    client: httpx.AsyncClient, fakes: Fakes, word: str, streamed: bool
) -> None:
    sent = by("acme", **{"x-isthmus-resumable": word})
    refused = await client.post(PATH, json={**BODY, "stream": streamed}, headers=sent)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "x-isthmus-resumable"
    assert fakes.questions == []


class Source:
    """Frames that come when the test says so."""

    def __init__(self) -> None:
        self.gates: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.closed = asyncio.Event()

    async def frames(self) -> AsyncGenerator[bytes, None]:
        try:
            while (frame := await self.gates.get()) is not None:
                yield frame
        finally:
            self.closed.set()

    def send(self, *frames: bytes | None) -> None:
        for frame in frames:
            self.gates.put_nowait(frame)


@pytest.fixture
async def streams() -> AsyncIterator[Streams]:
    async with aclosing(Streams(ServeSettings(resume_window_s=0.05, resume_max_mib=0.001))) as kept:
        yield kept


def never(asked: bytes, said: Said) -> Frames:
    raise AssertionError("nothing is made anew: the replica that makes the answer is here")


async def test_the_work_goes_on_while_nobody_reads(streams: Streams) -> None:
    source = Source()
    reader = streams.keep("acme", "a", source.frames(), b"")
    assert reader is not None
    source.send(b"1")
    assert await anext(reader) == b"1"
    await reader.aclose()
    source.send(b"2")
    rest = await streams.resume("acme", "a.1", never)
    assert await anext(rest) == b"2"
    source.send(b"3", None)
    assert [frame async for frame in rest] == [b"3"]


async def test_nobody_comes_back(streams: Streams) -> None:
    source = Source()
    reader = streams.keep("acme", "a", source.frames(), b"")
    assert reader is not None
    source.send(b"1")
    await anext(reader)
    await reader.aclose()
    async with asyncio.timeout(5):
        await source.closed.wait()
    with pytest.raises(RequestError, match="no such answer"):
        await streams.resume("acme", "a.1", never)


async def test_a_reader_that_never_begins_is_one_that_left(streams: Streams) -> None:
    source = Source()
    streams.keep("acme", "a", source.frames(), b"")
    source.send(b"1")
    async with asyncio.timeout(5):
        await source.closed.wait()


async def test_what_failed_unexpectedly_fails_its_reader(streams: Streams) -> None:
    async def broken() -> AsyncGenerator[bytes, None]:
        yield b"1"
        raise ZeroDivisionError

    reader = streams.keep("acme", "a", broken(), b"")
    assert reader is not None
    assert await anext(reader) == b"1"
    with pytest.raises(ZeroDivisionError):
        await anext(reader)


async def test_memory_is_bounded(streams: Streams) -> None:
    left, read, late = Source(), Source(), Source()
    one = streams.keep("a", "1", left.frames(), b"")
    two = streams.keep("a", "2", read.frames(), b"")
    assert one is not None
    assert two is not None
    left.send(b"x" * 2000)
    read.send(b"x")
    await anext(one)
    await anext(two)
    assert streams.keep("a", "3", late.frames(), b"") is None  # full of what is being read
    await one.aclose()
    assert (
        three := streams.keep("a", "3", late.frames(), b"")
    ) is not None  # the one nobody reads went
    async with asyncio.timeout(5):
        await left.closed.wait()
    read.send(b"y", None)
    assert [frame async for frame in two] == [b"y"]
    late.send(None)
    assert [frame async for frame in three] == []


async def test_an_answer_can_be_stopped_by_its_tenant(
    client: httpx.AsyncClient, fakes: Fakes
) -> None:
    whole = events(await client.post(PATH, json=BODY, headers=by("acme", **ASKED)))
    answer = (whole[0].id or "").rpartition(".")[0]
    for tenant, status in (("zeta", 404), ("acme", 204), ("acme", 404)):
        stopped = await client.delete(f"{PATH}/{answer}", headers=by(tenant))
        assert stopped.status_code == status
    sent = by("acme", **{"last-event-id": whole[0].id or ""})
    assert (await client.get(RESUME, headers=sent)).status_code == 404


async def test_what_was_counted_once_is_not_counted_again(fakes: Fakes, keys: Keys) -> None:
    """Or a tenant at its limit could neither read the rest of its answer nor stop it."""
    one = keys.of(by("acme")).model_copy(update={"requests_per_minute": 1})
    limited = Keys((one,))
    transport = httpx.ASGITransport(create_api(fakes.services(limited)))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        whole = events(await client.post(PATH, json=BODY, headers=by("acme", **ASKED)))
        answer = (whole[0].id or "").rpartition(".")[0]
        assert (await client.get("/v1/models", headers=by("acme"))).status_code == 429
        assert (await client.get("/v1/collections", headers=by("acme"))).status_code == 429
        sent = by("acme", **{"last-event-id": whole[0].id or ""})
        assert (await client.get(RESUME, headers=sent)).status_code == 200
        assert (await client.delete(f"{PATH}/{answer}", headers=by("acme"))).status_code == 204


async def test_stopping_ends_the_work(streams: Streams) -> None:
    source = Source()
    reader = streams.keep("acme", "a", source.frames(), b"")
    assert reader is not None
    source.send(b"1")
    await anext(reader)
    await streams.stop("acme", "a")
    async with asyncio.timeout(5):
        await source.closed.wait()
