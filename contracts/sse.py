"""Server-sent events: encode frames, decode a byte stream.

The subset of https://html.spec.whatwg.org/multipage/server-sent-events.html that the OpenAI
streaming protocol uses, complete enough to read any conforming stream: multi-line data, comments,
ids, event names, LF, CR and CRLF line ends, frames cut anywhere by the network.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from dataclasses import dataclass

MEDIA_TYPE = "text/event-stream"
DONE = "[DONE]"
"""The data of the last frame of an OpenAI stream."""
DONE_FRAME = b"data: [DONE]\n\n"

_LINE_END = re.compile(rb"\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class Event:
    """One dispatched event: its `data` with lines joined by LF, its type, the last id seen."""

    data: str
    event: str = "message"
    id: str | None = None


class FrameTooLongError(ValueError):
    """A stream sent a line or an event longer than the decoder allows."""


def encode(data: str | bytes, *, event: str | None = None, id: str | None = None) -> bytes:  # noqa: A002
    """Return one frame, ended by its blank line.

    Raises:
        ValueError: `event` or `id` holds a line break, which would forge a second field.
    """
    if event is None and id is None and isinstance(data, bytes) and b"\n" not in data:
        return b"data: " + data + b"\n\n"  # the hot path: one JSON chunk of a stream
    lines = []
    for name, value in (("event", event), ("id", id)):
        if value is None:
            continue
        if "\n" in value or "\r" in value:
            raise ValueError(f"An SSE {name} cannot hold a line break: {value!r}")
        lines.append(f"{name}: {value}".encode())
    raw = data if isinstance(data, bytes) else data.encode()
    lines += [b"data: " + line for line in _LINE_END.split(raw)]
    return b"\n".join(lines) + b"\n\n"


def comment(text: str) -> bytes:
    """Return a comment frame: keeps a connection alive, invisible to clients."""
    return b": " + _LINE_END.sub(b" ", text.encode()) + b"\n\n"


class Decoder:
    """Incremental decoder of one stream. Feed it bytes as they come.

    An event that the stream's end cuts off is not dispatched, as the specification asks.
    Bytes that are not UTF-8 are replaced by U+FFFD, likewise.
    """

    def __init__(self, max_event_bytes: int = 1 << 20) -> None:
        self._max = max_event_bytes
        self._rest = bytearray()
        self._ended_with_cr = False
        self._data: list[bytes] = []
        self._size = 0
        self._event = ""
        self._id: str | None = None

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Yield the events that `chunk` completes.

        Raises:
            FrameTooLongError: a line or event exceeds `max_event_bytes`.
        """
        for line in self._lines(chunk):
            if line:
                self._field(line)
            elif (event := self._dispatch()) is not None:
                yield event

    def _lines(self, chunk: bytes) -> Iterator[bytes]:
        if self._ended_with_cr and chunk[:1] == b"\n":  # a CRLF cut in two
            chunk = chunk[1:]
        if not chunk:
            return
        self._ended_with_cr = chunk[-1:] == b"\r"
        *whole, rest = _LINE_END.split(chunk)
        for line in whole:
            if self._rest:
                line = bytes(self._rest) + line
                self._rest.clear()
            yield line
        self._rest += rest
        if len(self._rest) > self._max:
            raise FrameTooLongError(f"An SSE line is longer than {self._max} bytes.")

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._size += len(value) + 1
            if self._size > self._max:
                raise FrameTooLongError(f"An SSE event is longer than {self._max} bytes.")
            self._data.append(value)
        elif name == b"event":
            self._event = value.decode(errors="replace")
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode(errors="replace")

    def _dispatch(self) -> Event | None:
        data, name = self._data, self._event
        self._data, self._event, self._size = [], "", 0
        if not data:
            return None
        return Event(b"\n".join(data).decode(errors="replace"), name or "message", self._id)


async def decode(
    chunks: AsyncIterable[bytes], max_event_bytes: int = 1 << 20
) -> AsyncIterator[Event]:
    """Yield the events of a whole byte stream.

    Raises:
        FrameTooLongError: a line or event exceeds `max_event_bytes`.
    """
    decoder = Decoder(max_event_bytes)
    async for chunk in chunks:
        for event in decoder.feed(chunk):
            yield event
