"""A chat with one of the LLM service's own models: nothing is looked up, nothing is cited."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from contracts.openai import ChatCompletionRequest
from rag_graph.llm.transcript import Piece
from rag_graph.state import Answered, Event, Token
from serve_app import guard
from serve_app.auth import Key
from serve_app.chat import ChatRequest, deadline
from serve_app.errors import RequestError
from serve_app.services import Services

RETRIEVAL_FIELDS = frozenset({"collection", "retrieval", "top_k", "filters", "thread_id"})
_OWN_FIELDS = RETRIEVAL_FIELDS | {"stream", "stream_options"}


def check(wanted: ChatRequest, answering: str) -> None:
    """Refuse fields that would have no effect.

    Raises:
        RequestError: a field about retrieval is set; `answering` is the model that takes it.
    """
    for field in sorted(wanted.model_fields_set & RETRIEVAL_FIELDS):
        message = (
            f"The field {field!r} needs the model {answering!r}; {wanted.model!r} looks up and "
            "remembers nothing."
        )
        raise RequestError(message, None, field)


async def answer(
    services: Services, key: Key, wanted: ChatRequest, sent: Mapping[str, str]
) -> AsyncGenerator[Event, None]:
    """Yield any number of `Token` and one `Answered`.

    Raises:
        ServeAppError: the request is refused, or its deadline is no number.
        LLMError: the service did not answer.
    """
    request = ChatCompletionRequest.model_validate(wanted.model_dump(exclude=set(_OWN_FIELDS)))
    timeout_s = deadline(sent) or services.rag.timeout_s
    text: list[str] = []
    async with aclosing(guard.generate(services, key, request, timeout_s, sent)) as outputs:
        async for output in outputs:
            if isinstance(output, Piece):
                text.append(output.text)
                yield Token(output.text, output.tokens)
            else:
                reason, usage, model = output.finish_reason, output.usage, output.model
                yield Answered("".join(text), (), reason, usage, model)
