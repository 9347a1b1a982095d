"""What of an answer is on the wire already, where it has to be made anew."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from contracts import sse
from contracts.errors import Code
from rag_graph.state import Answered, Event, Token
from serve_app.errors import ServeAppError


class DivergedError(ServeAppError):
    """An answer that was made anew is not the one that was begun."""

    default_code = Code.UPSTREAM_ERROR

    def __init__(self) -> None:
        super().__init__(
            "The replica that made this answer is gone, and the answer came out otherwise when it "
            "was made anew. Ask again."
        )


@dataclass(frozen=True)
class Said:
    """The frames of an answer so far, as far as the rest depends on them."""

    frames: int = 0
    text: str = ""
    tail: int = 0
    """Frames from the one that says why the answer ended; 0 while it goes on."""
    complete: bool = False
    """Whether nothing follows: all is said, or an error was."""

    @classmethod
    def of(cls, frames: Sequence[bytes]) -> Said:
        """Return what `frames` of one answer say."""
        text, tail = "", 0
        for event in sse.Decoder().feed(b"".join(frames)):
            if event.data == sse.DONE or "error" in (chunk := json.loads(event.data)):
                return cls(len(frames), text, tail, complete=True)
            choices = chunk["choices"]
            text += "".join(choice["delta"].get("content") or "" for choice in choices)
            tail += tail > 0 or any(choice["finish_reason"] for choice in choices)
        return cls(len(frames), text, tail)

    async def unsaid(self, events: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
        """Yield `events` without the text that was said before.

        Raises:
            DivergedError: it is another text.
        """
        left = self.text
        async with aclosing(events):
            async for event in events:
                if left and isinstance(event, Answered):
                    raise DivergedError
                if left and isinstance(event, Token):
                    left, rest = _without(event.text, left)
                    if rest:
                        yield Token(rest)
                else:
                    yield event


NOTHING = Said()


def _without(text: str, said: str) -> tuple[str, str]:
    """Return what is left of `said` once `text` is taken off, and of `text` once `said` is.

    Raises:
        DivergedError: neither begins with the other.
    """
    both = min(len(text), len(said))
    if text[:both] != said[:both]:
        raise DivergedError
    return said[both:], text[both:]
