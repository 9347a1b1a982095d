"""Requests whose grammar is being compiled: not yet the scheduler's."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures

from llm_backend.engine.guide import Guide, GuideError, Guides
from llm_backend.engine.sequence import Sequence

_WAIT_S = 0.02  # then messages are looked at again


class PendingGuides:
    """Sequences and the guides they wait for.

    Args:
        guides: compiles grammars.
    """

    def __init__(self, guides: Guides) -> None:
        self._guides = guides
        self._pending: dict[str, tuple[Sequence, futures.Future[Guide]]] = {}

    def __iter__(self) -> Iterator[Sequence]:
        yield from (sequence for sequence, _ in self._pending.values())

    def __bool__(self) -> bool:
        return bool(self._pending)

    def add(self, sequence: Sequence, grammar: str) -> None:
        """Begin to compile a sequence's grammar."""
        self._pending[sequence.request_id] = (sequence, self._guides.compile(grammar))

    def drop(self, request_id: str) -> bool:
        """Forget a sequence; return whether it was here."""
        return self._pending.pop(request_id, None) is not None

    def take(self) -> list[tuple[Sequence, GuideError | None]]:
        """Return the sequences that have got their guide, or why they cannot have one."""
        ready = [request_id for request_id, (_, guide) in self._pending.items() if guide.done()]
        return [_guided(*self._pending.pop(request_id)) for request_id in ready]

    def wait(self) -> None:
        """Sleep until one is ready, but not for long."""
        every = [guide for _, guide in self._pending.values()]
        futures.wait(every, _WAIT_S, return_when=futures.FIRST_COMPLETED)


def _guided(sequence: Sequence, guide: futures.Future[Guide]) -> tuple[Sequence, GuideError | None]:
    try:
        sequence.guide = guide.result()
    except GuideError as error:
        return sequence, error
    return sequence, None
