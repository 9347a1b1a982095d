"""A chat with one of the LLM service's own models: nothing is looked up, nothing is cited."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from contracts.openai import ChatCompletionRequest, Usage
from rag_graph.llm.pool import LLM
from rag_graph.llm.router import ModelRouter
from rag_graph.llm.transcript import Piece
from rag_graph.routing import ModelEntry
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
    began, text = time.monotonic(), list[str]()
    async with aclosing(guard.generate(services, key, request, timeout_s, sent)) as outputs:
        async for output in outputs:
            if isinstance(output, Piece):
                text.append(output.text)
                yield Token(output.text, output.tokens)
            else:
                told = _metadata(services.llm, wanted.model, output.usage, time.monotonic() - began)
                reason, model = output.finish_reason, output.model
                yield Answered("".join(text), (), reason, output.usage, model, told)


def _metadata(llm: LLM, model: str, usage: Usage | None, seconds: float) -> dict[str, Any]:
    """Return what an answer from the documents tells of itself, too."""
    table = llm.table if isinstance(llm, ModelRouter) else ()
    entry = next((one for one in table if one.name == model), ModelEntry(name=model))
    used = usage or Usage.of(0, 0)
    return {
        "route": "model",
        "model": model,
        "reason": "asked for by name",
        "llm_calls": 1,
        "tokens": {"prompt": used.prompt_tokens, "completion": used.completion_tokens},
        "cost": round(entry.cost(used.prompt_tokens, used.completion_tokens), 9),
        "timings_ms": {"generate": round(seconds * 1e3, 1)},
    }
