"""The graph's nodes: small functions from the state to what they add to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypedDict

from langgraph.runtime import Runtime

from contracts import headers
from contracts.openai import ChatCompletionRequest
from rag_graph import prompts
from rag_graph.citations import MarkerFilter, cite
from rag_graph.errors import LLMUnavailableError
from rag_graph.llm.client import End, Piece
from rag_graph.llm.pool import LLM
from rag_graph.settings import RagSettings
from rag_graph.state import Answered, Passage, Question, Retrieved, SearchQuery, Token

SearchFn = Callable[[SearchQuery], Awaitable[list[Passage]]]

NOT_FOUND = "I could not find this in the documents."


@dataclass(frozen=True, slots=True)
class Services:
    """What the nodes work with; the same for every question."""

    search: SearchFn
    llm: LLM
    settings: RagSettings


class Input(TypedDict):
    """What the graph is started with."""

    question: Question


class State(Input, total=False):
    """What the nodes have found out so far."""

    passages: tuple[Passage, ...]
    """Those sent to the model: marker [n] is the n-th."""
    text: str
    end: End
    removed_markers: int


Update: TypeAlias = dict[str, Any]


async def retrieve(state: State, runtime: Runtime[Services]) -> Update:
    """Search, and keep what the prompt has room for."""
    services, question = runtime.context, state["question"]
    query = SearchQuery(
        text=question.text,
        collection=question.collection,
        top_k=question.top_k or services.settings.top_k,
        filters=question.filters,
    )
    found = await services.search(query)
    passages = prompts.select(found, services.settings.context_tokens)
    runtime.stream_writer(Retrieved(passages))
    return {"passages": passages}


def grade(state: State) -> Literal["generate", "abstain"]:
    """Decide whether there is anything to answer from."""
    return "generate" if state["passages"] else "abstain"


async def abstain(state: State, runtime: Runtime[Services]) -> Update:
    """Say plainly that the documents hold no answer; no model is asked."""
    runtime.stream_writer(Token(NOT_FOUND))
    model = state["question"].model or runtime.context.settings.llm_model or "none"
    return {"text": NOT_FOUND, "end": End("stop", None, model), "removed_markers": 0}


async def generate(state: State, runtime: Runtime[Services]) -> Update:
    """Stream the model's answer, less the markers that point nowhere."""
    services, question, passages = runtime.context, state["question"], state["passages"]
    write = runtime.stream_writer
    request = await _request(services, question, passages)
    timeout = question.timeout_s or services.settings.timeout_s
    markers = MarkerFilter(len(passages))
    text, end = [], None
    async with aclosing(services.llm.stream(request, timeout, _headers(question))) as outputs:
        async for output in outputs:
            piece = markers.feed(output.text) if isinstance(output, Piece) else markers.flush()
            if piece:
                text.append(piece)
                write(Token(piece))
            end = output if isinstance(output, End) else None
    return {"text": "".join(text), "end": end, "removed_markers": markers.removed}


async def finish(state: State, runtime: Runtime[Services]) -> Update:
    """Attach the citations and end the stream."""
    end = state["end"]
    runtime.stream_writer(
        Answered(
            text=state["text"],
            citations=cite(state["text"], state["passages"]),
            finish_reason=end.finish_reason,
            usage=end.usage,
            model=end.model,
            metadata={"removed_markers": state["removed_markers"]},
        )
    )
    return {}


async def _request(
    services: Services, question: Question, passages: tuple[Passage, ...]
) -> ChatCompletionRequest:
    settings = services.settings
    greedy = question.temperature is None
    return ChatCompletionRequest(
        model=question.model or settings.llm_model or await _first_model(services.llm),
        messages=prompts.messages(question.text, question.history, passages),
        max_tokens=question.max_tokens or settings.max_tokens,
        temperature=settings.temperature if greedy else question.temperature,
        top_p=question.top_p,
        seed=question.seed,
        stop=list(question.stop) or None,
    )


async def _first_model(llm: LLM) -> str:
    models = await llm.models()
    if not models:
        raise LLMUnavailableError(f"The LLM service at {llm.url} lists no model. Check its start.")
    return models[0].id


def _headers(question: Question) -> dict[str, str]:
    given = {headers.REQUEST_ID: question.request_id, headers.TRACEPARENT: question.traceparent}
    return {name: value for name, value in given.items() if value is not None}
