"""One admitted request, from the engine's outputs to the response's bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from contracts import sse
from contracts.openai import Usage
from llm_backend.api.choice import Choice, Piece
from llm_backend.api.dispatcher import Dispatcher
from llm_backend.api.formats import Format
from llm_backend.api.metrics import Metrics, RequestTimer
from llm_backend.errors import RequestError
from llm_backend.runtime import ipc


class Exchange:
    """Generates the choices of one request and writes them in its format.

    Args:
        submits: the sequences, in the order of `choices`.
        prompts: how many prompts the choices belong to, in equal shares.
        streamed: whether `frames` will be read, not `body`.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        metrics: Metrics,
        submits: Sequence[ipc.Submit],
        choices: Sequence[Choice],
        form: Format,
        prompts: int,
        *,
        streamed: bool,
    ) -> None:
        self._dispatcher = dispatcher
        self._ids = [submit.request_id for submit in submits]
        self._choices = choices
        self._format = form
        self._firsts = range(0, len(submits), len(submits) // prompts)
        self._prompt_tokens = sum(len(submits[i].prompt_ids) for i in self._firsts)
        self._timer = RequestTimer(metrics)
        self._mailbox = dispatcher.submit(submits, streamed=streamed)

    @property
    def usage(self) -> Usage:
        """Token counts so far; a prompt counts once, however many choices it has."""
        generated = sum(choice.completion_tokens for choice in self._choices)
        cached = sum(self._choices[i].cached_tokens for i in self._firsts)
        return Usage.of(self._prompt_tokens, generated, cached)

    async def body(self) -> bytes:
        """Return the whole answer.

        Raises:
            RequestError: the engine could not finish it.
        """
        async for _ in self._pieces():
            pass
        return self._format.body(self._choices, self.usage)

    async def frames(self, *, include_usage: bool) -> AsyncIterator[bytes]:
        """Yield the SSE frames of the answer, all that is there at once.

        Raises:
            RequestError: the engine could not finish it.
        """
        begun: set[int] = set()
        async for pieces in self._pieces():
            ready = b""
            for piece in pieces:
                if piece.index not in begun:
                    begun.add(piece.index)
                    ready += self._format.begin(piece.index)
                ready += self._frame(piece)
            if ready:
                yield ready
        if include_usage:
            yield self._format.usage(self.usage)
        yield sse.DONE_FRAME

    def _frame(self, piece: Piece) -> bytes:
        frame = self._format.content(piece) if piece.text or piece.tokens else b""
        if piece.calls:
            frame += self._format.calls(piece)
        if piece.finish_reason is not None:
            frame += self._format.finish(piece.index, piece.finish_reason)
        return frame

    async def _pieces(self) -> AsyncIterator[list[Piece]]:
        """Yield what each wake-up brought until every choice is finished."""
        try:
            while any(choice.finish_reason is None for choice in self._choices):
                outputs = await self._mailbox.get()
                yield [self._take(i, o) for i, o in outputs if not self._choices[i].finish_reason]
            self._timer.finish("ok", self._prompt_tokens)
        except RequestError as error:
            self._timer.finish(error.code, self._prompt_tokens)
            raise
        finally:
            self.close()

    def _take(self, index: int, output: ipc.Output) -> Piece:
        before = self._choices[index].completion_tokens
        piece = self._choices[index].take(output)
        self._timer.tokens(index, self._choices[index].completion_tokens - before)
        if piece.finish_reason is not None and output.finish_reason is None:
            self._dispatcher.cancel([self._ids[index]])  # ended by a stop string
        return piece

    def close(self) -> None:
        """Have the engine forget what is not finished: nobody waits for it any more."""
        self._dispatcher.cancel(self._ids)
        self._timer.finish("aborted", self._prompt_tokens)
