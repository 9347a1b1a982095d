"""SSE frames: what is encoded decodes to itself, however the network cuts it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import sse
from contracts.sse import Decoder, Event, FrameTooLongError

# Text that survives: the format normalises line ends, and cannot carry surrogates.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"))
NAME = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), min_size=1)


def decode_all(stream: bytes, cuts: list[int] | None = None) -> list[Event]:
    decoder = Decoder()
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts or []), len(stream)]
    pieces = [stream[a:b] for a, b in itertools.pairwise(edges)]
    return feed_all(decoder, pieces)


def feed_all(decoder: Decoder, pieces: list[bytes]) -> list[Event]:
    return [event for piece in pieces for event in decoder.feed(piece)]


@given(st.lists(st.tuples(TEXT, NAME, NAME), max_size=5), st.lists(st.integers(0, 10_000)))
def test_what_is_encoded_decodes_to_itself_however_it_is_cut(
    events: list[tuple[str, str, str]], cuts: list[int]
) -> None:
    # A field's value loses one leading space, so the encoder writes one before it.
    stream = b"".join(sse.encode(data, event=name, id=id_) for data, name, id_ in events)
    assert decode_all(stream, cuts) == [Event(d, n, i) for d, n, i in events]


@given(st.binary(), st.lists(st.integers(0, 10_000)))
def test_any_bytes_decode_the_same_however_they_are_cut(stream: bytes, cuts: list[int]) -> None:
    assert decode_all(stream, cuts) == decode_all(stream)


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_every_line_end_of_the_specification_is_read(end: bytes) -> None:
    stream = end.join([b": hello", b"event: add", b"data: 1", b"data: 2", b"id: 7", b"", b""])
    for cut in range(len(stream)):
        assert decode_all(stream, [cut]) == [Event("1\n2", "add", "7")]


def test_an_id_stays_until_the_next_one() -> None:
    assert decode_all(b"id: 1\ndata: a\n\ndata: b\n\n") == [
        Event("a", id="1"),
        Event("b", id="1"),
    ]


def test_an_event_that_the_stream_cuts_off_is_not_dispatched() -> None:
    assert decode_all(b"data: whole\n\ndata: half") == [Event("whole")]


def test_invalid_utf8_is_replaced_not_raised() -> None:
    assert decode_all(b"data: \xff\n\n") == [Event("\ufffd")]


def test_a_line_without_end_is_refused_before_it_fills_memory() -> None:
    decoder = Decoder(max_event_bytes=100)
    with pytest.raises(FrameTooLongError, match="100 bytes"):
        feed_all(decoder, [b"data: 0123456789"] * 20)


def test_an_event_of_endless_lines_is_refused_before_it_fills_memory() -> None:
    decoder = Decoder(max_event_bytes=100)
    with pytest.raises(FrameTooLongError, match="100 bytes"):
        feed_all(decoder, [b"data: 0123456789\n"] * 20)


@pytest.mark.parametrize("forged", ["a\ndata: b", "a\rb"])
def test_a_line_break_cannot_forge_a_field(forged: str) -> None:
    with pytest.raises(ValueError, match="line break"):
        sse.encode("data", id=forged)


def test_comments_are_invisible() -> None:
    assert decode_all(sse.comment("still\nthere") + sse.encode(b"x")) == [Event("x")]
