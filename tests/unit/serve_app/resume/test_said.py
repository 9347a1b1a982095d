"""An answer that is made anew goes on where the first one broke off."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

import pytest

from contracts import errors, sse
from contracts.errors import Code
from contracts.openai import Usage
from contracts.streaming import ChatFrames
from rag_graph.state import Answered, Event, Starting, Token
from serve_app.chat import Begun, Reply
from serve_app.resume.said import DivergedError, Said

REPLY = Reply("chatcmpl-1", 1, "isthmus", include_usage=True)
FRAMES = ChatFrames("chatcmpl-1", 1, "isthmus")
TEXT = ["The", " taint is", " sku=gpü", ". [1]"]


def answer(*tokens: str) -> Begun:
    async def events() -> AsyncGenerator[Event, None]:
        for token in tokens:
            yield Token(token)
        yield Answered("".join(tokens), (), "stop", Usage.of(7, 4), "tiny", {})

    return Begun((), events())


async def frames(begun: Begun, said: Said) -> list[bytes]:
    return [frame async for frame in REPLY.frames(begun, said)]


def text(found: Sequence[bytes]) -> str:
    return Said.of(found).text


@pytest.mark.parametrize("tokens", [TEXT, ["".join(TEXT)], list("".join(TEXT))])
async def test_at_whatever_frame_it_broke_off_the_rest_follows(tokens: list[str]) -> None:
    whole = await frames(answer(*TEXT), Said())
    for sent in range(len(whole) + 1):
        said = Said.of(whole[:sent])
        assert (said.frames, said.complete) == (sent, sent == len(whole))
        if said.complete:
            continue
        rest = await frames(answer(*tokens), said)
        assert text(whole[:sent] + rest) == "".join(TEXT)
        numbers = [frame.partition(b"\n")[0] for frame in rest]
        assert numbers == [b"id: chatcmpl-1.%d" % (sent + n + 1) for n in range(len(rest))]
        tail = whole[-3:][max(0, sent - len(whole) + 3) :]
        bare = [frame.partition(b"\n")[2] for frame in rest[-len(tail) :]]
        assert bare == [frame.partition(b"\n")[2] for frame in tail]


@pytest.mark.parametrize("tokens", [["The", " pool"], ["The"], ["An"]])
async def test_another_answer_is_an_error(tokens: list[str]) -> None:
    whole = await frames(answer(*TEXT), Said())
    rest = await frames(answer(*tokens), Said.of(whole[:3]))
    assert len(rest) == 1
    assert b'"upstream_error"' in rest[0]
    assert b"came out otherwise" in rest[0]


async def test_what_is_not_text_is_passed_on() -> None:
    async def events() -> AsyncGenerator[Event, None]:
        yield Starting("loading", 50.0, 3.0)
        yield Token("Another")

    passed = Said(2, "The").unsaid(events())
    assert await anext(passed) == Starting("loading", 50.0, 3.0)
    with pytest.raises(DivergedError):
        await anext(passed)


def test_an_answer_that_failed_is_complete() -> None:
    error = sse.encode(errors.envelope(Code.INTERNAL, "It failed.").model_dump_json())
    assert Said.of([FRAMES.role(), FRAMES.content("The"), error]) == Said(3, "The", complete=True)
