"""One chat request: from the wire to a `Question`, and from its events to the wire."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from contracts import errors, headers, sse
from contracts.errors import Code, CodedError
from contracts.openai import (
    AssistantMessage,
    ChatChoice,
    ChatCompletion,
    ChatCompletionRequest,
)
from contracts.streaming import ChatFrames
from rag_graph.errors import LLMError, LLMRequestError, RagError
from rag_graph.state import (
    DEFAULT_COLLECTION,
    Answered,
    Event,
    Passage,
    Question,
    Retrieval,
    Retrieved,
    Starting,
    Token,
)
from serve_app.errors import DegradedError, RequestError
from serve_app.responses import error_body, public_code
from serve_app.resume.said import NOTHING, Said
from serve_app.routes.search import Collection, Filters, TopK

THREAD_ID = r"^[\w.:-]+$"
Events = AsyncGenerator[Event, None]
"""An answer as it comes about. Closing it stops the work behind it."""


class ChatRequest(ChatCompletionRequest):
    """A chat completion, and where to look for passages."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "isthmus",
                    "messages": [
                        {"role": "user", "content": "Which taint do the GPU node pools carry?"}
                    ],
                    "stream": True,
                }
            ]
        }
    )

    collection: Collection = DEFAULT_COLLECTION
    retrieval: Annotated[
        Retrieval,
        Field(description="Whether to search the documents; auto: unless it is small talk."),
    ] = "auto"
    top_k: TopK = None
    filters: Filters = Filters()
    thread_id: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=64,
            pattern=THREAD_ID,
            description="Conversation to remember this in, of any name; its earlier turns are "
            "then not sent along.",
        ),
    ] = None


class ChatAnswer(ChatCompletion):
    """A chat completion with what it rests on."""

    citations: list[dict[str, Any]]
    isthmus: dict[str, Any]


def question(
    wanted: ChatRequest, sent: Mapping[str, str], tenant: str, model: str | None = None
) -> Question:
    """Return the question that a request with the headers `sent` asks.

    Args:
        wanted: the request's body.
        sent: the request's headers.
        tenant: who asks.
        model: the one that has to answer; None leaves it to the routing.

    Raises:
        RequestError: the last message is not the user's or is empty, turns are sent that a
            thread remembers, a field has no effect beside another, or a header is wrong.
    """
    *history, last = wanted.messages
    where = f"messages[{len(history)}]"
    if last.role != "user":
        message = f"Field '{where}.role': the last message has to be the user's."
        raise RequestError(message, None, f"{where}.role")
    if not last.text.strip():
        message = f"Field '{where}.content': the question is empty."
        raise RequestError(message, None, f"{where}.content")
    if wanted.thread_id is not None and any(turn.role in ("user", "assistant") for turn in history):
        message = "Field 'messages': thread_id remembers the earlier turns; send the question only."
        raise RequestError(message, None, "messages")
    if wanted.retrieval == "never":
        searched = {"filters": wanted.filters.given(), "top_k": wanted.top_k}
        for field in (name for name, value in searched.items() if value):
            message = f"Field {field!r}: with the retrieval 'never' nothing is searched for."
            raise RequestError(message, None, field)
    return Question(
        last.text,
        tenant=tenant,
        thread_id=wanted.thread_id,
        history=tuple(history),
        collection=wanted.collection,
        retrieval=wanted.retrieval,
        top_k=wanted.top_k,
        filters=wanted.filters.given(),
        model=model,
        max_tokens=wanted.token_limit,
        temperature=wanted.temperature,
        top_p=wanted.top_p,
        seed=wanted.seed,
        stop=tuple(wanted.stop_sequences),
        timeout_s=deadline(sent),
        request_id=headers.request_id(sent),
        traceparent=headers.traceparent(sent),
    )


def deadline(sent: Mapping[str, str]) -> float | None:
    """Return the seconds that a request with the headers `sent` allows, if it says so.

    Raises:
        RequestError: the header is not a number of milliseconds.
    """
    try:
        return headers.deadline_seconds(sent)
    except ValueError as error:
        raise RequestError(str(error), None, headers.DEADLINE_MS) from None


@dataclass(frozen=True)
class Reply:
    """How one answer is written on the wire."""

    id: str
    created: int
    model: str
    include_usage: bool

    @classmethod
    def to(cls, wanted: ChatRequest) -> Reply:
        """Return the reply to `wanted`, with a new id."""
        new_id = f"chatcmpl-{uuid.uuid4().hex}"
        return cls(new_id, int(time.time()), wanted.model, wanted.include_usage)

    def whole(self, answered: Answered, passages: tuple[Passage, ...]) -> ChatAnswer:
        """Return the response that is not streamed."""
        message = AssistantMessage(content=answered.text)
        return ChatAnswer(
            id=self.id,
            created=self.created,
            model=self.model,
            choices=[ChatChoice(message=message, finish_reason=answered.finish_reason)],
            usage=answered.usage,
            **_grounds(answered, passages),
        )

    async def frames(self, answer: Begun, said: Said = NOTHING) -> AsyncGenerator[bytes, None]:
        """Yield the SSE frames of `answer`; an error after the first frame becomes the last one.

        The n-th frame has the event id "ID.n", which `Last-Event-ID` brings back. Frames that were
        `said` before are left out.
        """
        frames = ChatFrames(self.id, self.created, self.model)
        head, numbers = f"id: {self.id}.".encode(), itertools.count(said.frames + 1)
        if not said.frames:
            yield b"%b%d\n%b" % (head, next(numbers), frames.role())
        events = said.unsaid(answer.events) if said.text else answer.events
        try:
            async with aclosing(events):
                async for event in events:
                    for frame in self._frames(frames, event, answer.passages, said.tail):
                        yield b"%b%d\n%b" % (head, next(numbers), frame)
            last = sse.DONE_FRAME
        except CodedError as error:
            last = error_frame(error)
        yield b"%b%d\n%b" % (head, next(numbers), last)

    def _frames(
        self, frames: ChatFrames, event: Event, passages: tuple[Passage, ...], said: int
    ) -> Iterator[bytes]:
        if isinstance(event, Token):
            yield frames.content(event.text)
        elif isinstance(event, Starting):
            yield frames.aside(isthmus={"starting": asdict(event)})
        elif isinstance(event, Answered):
            if said < 1:
                yield frames.finish(event.finish_reason, **_grounds(event, passages))
            if said < 2 and self.include_usage and event.usage is not None:
                yield frames.usage(event.usage)


def error_frame(error: CodedError) -> bytes:
    """Return the frame that ends a stream which failed."""
    return sse.encode(errors.ErrorEnvelope(error=error_body(error)).model_dump_json())


def _grounds(answered: Answered, passages: tuple[Passage, ...]) -> dict[str, Any]:
    texts = {passage.chunk_id: passage.text for passage in passages}
    return {
        "citations": [
            asdict(citation) | {"passage": texts.get(citation.chunk_id, citation.quote)}
            for citation in answered.citations
        ],
        "isthmus": {"llm_model": answered.model, **answered.metadata},
    }


@dataclass(frozen=True)
class Begun:
    """An answer whose first word is there."""

    passages: tuple[Passage, ...]
    events: Events
    """The first word and all that follows."""


async def begun(events: Events) -> Begun:
    """Return the answer once the first word is there, so that failing until then gets a status.

    Raises:
        DegradedError: passages were found, and then the LLM did not answer.
        RagError: anything else failed before the first word.
    """
    passages: tuple[Passage, ...] | None = None
    try:
        async for event in events:
            if not isinstance(event, Retrieved):
                return Begun(passages or (), _chained(event, events))
            passages = event.passages
    except LLMRequestError:
        raise
    except LLMError as error:
        if passages is None:
            raise
        raise _degraded(error, passages) from error
    raise RagError("The graph ended without an answer.", Code.INTERNAL)


def _degraded(error: LLMError, passages: tuple[Passage, ...]) -> DegradedError:
    message = f"{error} The passages found are in this response's `passages`."
    return DegradedError(message, public_code(error), error.retry_after, passages)


async def _chained(first: Event, rest: Events) -> AsyncGenerator[Event, None]:
    async with aclosing(rest):
        yield first
        async for event in rest:
            yield event
