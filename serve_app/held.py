"""Holding streamed questions while the LLM service starts, and telling how far it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from contracts.errors import Code
from rag_graph.errors import LLMUnavailableError
from rag_graph.llm.pool import LLM
from rag_graph.state import Event, Retrieved, Starting
from serve_app.metrics import Metrics

LOOK_EVERY_S = 0.5
SETTLE_S = 10.0
"""How long after a start it may still refuse: the pool's breakers have to close."""

Attempt = Callable[[], AsyncGenerator[Event, None]]


class Held:
    """The questions that wait for a start, at most `most` of them."""

    def __init__(self, llm: LLM, most: int, metrics: Metrics) -> None:
        self._llm = llm
        self._most = most
        self._metrics = metrics
        self._holding = 0

    async def answer(self, attempt: Attempt, timeout_s: float) -> AsyncGenerator[Event, None]:
        """Yield the events of `attempt`; if the service starts, of another one when it has.

        Meanwhile a `Starting` comes whenever the start has got further.

        Raises:
            LLMUnavailableError: it does not start, too many are held, or the time is over.
        """
        now = asyncio.get_running_loop().time
        end, settled = now() + timeout_s, 0.0
        retrieved = False
        while True:
            try:
                async with aclosing(attempt()) as events:
                    async for event in events:
                        if not (retrieved and isinstance(event, Retrieved)):
                            yield event
                        retrieved = retrieved or isinstance(event, Retrieved)
            except LLMUnavailableError as error:
                if now() < settled:
                    await asyncio.sleep(LOOK_EVERY_S)
                    continue
                if error.code != Code.NOT_READY or self._holding >= self._most:
                    raise
                async with aclosing(self._start(error, end)) as progress:
                    async for step in progress:
                        yield step
                settled = now() + SETTLE_S
            else:
                return

    async def _start(self, error: LLMUnavailableError, end: float) -> AsyncGenerator[Event, None]:
        """Yield how the start gets on, until it is over.

        Raises:
            LLMUnavailableError: `error`, if there is no start or it takes too long.
        """
        now = asyncio.get_running_loop().time
        self._holding += 1
        self._metrics.held.set(self._holding)
        try:
            said = await self._llm.starting()
            if said is None:
                raise error
            yield said
            while (state := await self._llm.starting()) is not None:
                if state.percent > said.percent:
                    said = state
                    yield said
                if now() + LOOK_EVERY_S >= end:
                    raise error
                await asyncio.sleep(LOOK_EVERY_S)
            yield Starting("ready", 100.0, 0.0)
        finally:
            self._holding -= 1
            self._metrics.held.set(self._holding)
