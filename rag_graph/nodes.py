"""The graph's nodes: small functions from the state to what they add to it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Literal, TypeAlias, TypedDict

from langgraph.runtime import Runtime

from contracts import headers
from contracts.openai import ChatCompletionRequest, ChatMessage
from rag_graph import prompts, questions
from rag_graph.citations import MarkerFilter, cite
from rag_graph.errors import LLMUnavailableError
from rag_graph.evidence import evidence, is_enough
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

    deadline: float
    """The event loop's time by which the answer has to be there."""
    standalone: str
    """The question as it can be understood without the conversation."""
    queries: tuple[str, ...]
    """What to search for."""
    passages: tuple[Passage, ...]
    """Those sent to the model: marker [n] is the n-th."""
    evidence: float | None
    text: str
    end: End
    removed_markers: int
    abstained: bool


Update: TypeAlias = dict[str, Any]


async def contextualize(state: State, runtime: Runtime[Services]) -> Update:
    """Make a follow-up understandable alone; a first question is."""
    services, question = runtime.context, state["question"]
    update: Update = {"deadline": _now() + (question.timeout_s or services.settings.timeout_s)}
    text = question.text
    if any(turn.role == "user" for turn in question.history):
        prompt = questions.rewrite_prompt(text, question.history)
        said = await _complete(services, question, prompt, update["deadline"])
        text = questions.standalone(text, question.history, said)
    return {**update, "standalone": text, "queries": (text,)}


def route(state: State, runtime: Runtime[Services]) -> Literal["decompose", "retrieve"]:
    """Decide whether to take the question apart."""
    hops = questions.is_multi_hop(state["standalone"])
    return "decompose" if hops and runtime.context.settings.max_parts else "retrieve"


async def decompose(state: State, runtime: Runtime[Services]) -> Update:
    """Take a multi-hop question apart."""
    services, most = runtime.context, runtime.context.settings.max_parts
    prompt = questions.decompose_prompt(state["standalone"], most)
    listed = await _complete(services, state["question"], prompt, state["deadline"], most)
    return {"queries": questions.parts(state["standalone"], listed, most)}


async def retrieve(state: State, runtime: Runtime[Services]) -> Update:
    """Search for all queries at once, and keep what the prompt has room for."""
    services, question = runtime.context, state["question"]
    top_k = question.top_k or services.settings.top_k
    searches = [
        services.search(
            SearchQuery(
                text=query,
                collection=question.collection,
                top_k=top_k,
                filters=question.filters,
            )
        )
        for query in state["queries"]
    ]
    found = merge(await asyncio.gather(*searches))
    passages = prompts.select(found, services.settings.context_tokens)
    runtime.stream_writer(Retrieved(passages))
    return {"passages": passages, "evidence": evidence(state["standalone"], found)}


def merge(found: Sequence[Sequence[Passage]]) -> list[Passage]:
    """Return the passages of all searches, each once: all first places, all second places, …"""
    merged: dict[str, Passage] = {}
    for places in zip_longest(*found):
        for passage in places:
            if passage is not None:
                merged.setdefault(passage.chunk_id, passage)
    return list(merged.values())


def grade(state: State, runtime: Runtime[Services]) -> Literal["generate", "abstain"]:
    """Decide whether there is enough to answer from."""
    threshold = runtime.context.settings.min_evidence
    enough = bool(state["passages"]) and is_enough(state["evidence"], threshold)
    return "generate" if enough else "abstain"


async def abstain(state: State, runtime: Runtime[Services]) -> Update:
    """Say plainly that the documents hold no answer; no model is asked."""
    runtime.stream_writer(Token(NOT_FOUND))
    model = state["question"].model or runtime.context.settings.llm_model or "none"
    end = End("stop", None, model)
    return {"text": NOT_FOUND, "end": end, "removed_markers": 0, "abstained": True}


async def generate(state: State, runtime: Runtime[Services]) -> Update:
    """Stream the model's answer, less the markers that point nowhere."""
    services, question, passages = runtime.context, state["question"], state["passages"]
    write = runtime.stream_writer
    request = await _request(services, question, passages)
    markers = MarkerFilter(len(passages))
    text, end = [], None
    left = _left(state["deadline"])
    async with aclosing(services.llm.stream(request, left, _headers(question))) as outputs:
        async for output in outputs:
            piece = markers.feed(output.text) if isinstance(output, Piece) else markers.flush()
            if piece:
                text.append(piece)
                write(Token(piece))
            end = output if isinstance(output, End) else None
    return {
        "text": "".join(text),
        "end": end,
        "removed_markers": markers.removed,
        "abstained": False,
    }


async def finish(state: State, runtime: Runtime[Services]) -> Update:
    """Attach the citations and end the stream."""
    end = state["end"]
    runtime.stream_writer(
        Answered(
            text=state["text"],
            citations=() if state["abstained"] else cite(state["text"], state["passages"]),
            finish_reason=end.finish_reason,
            usage=end.usage,
            model=end.model,
            metadata=_metadata(state),
        )
    )
    return {}


def _metadata(state: State) -> dict[str, Any]:
    found = state["evidence"]
    return {
        "standalone_question": state["standalone"],
        "queries": list(state["queries"]),
        "evidence": None if found is None else round(found, 3),
        "abstained": state["abstained"],
        "removed_markers": state["removed_markers"],
    }


async def _complete(
    services: Services,
    question: Question,
    messages: list[ChatMessage],
    deadline: float,
    lines: int = 1,
) -> str:
    """Return the model's whole reply to a request of our own."""
    request = ChatCompletionRequest(
        model=await _model(services, question),
        messages=messages,
        max_tokens=questions.REWRITE_TOKENS * lines,
        temperature=0.0,
    )
    stream = services.llm.stream(request, _left(deadline), _headers(question))
    async with aclosing(stream) as outputs:
        return "".join([o.text async for o in outputs if isinstance(o, Piece)])


async def _request(
    services: Services, question: Question, passages: tuple[Passage, ...]
) -> ChatCompletionRequest:
    settings = services.settings
    greedy = question.temperature is None
    return ChatCompletionRequest(
        model=await _model(services, question),
        messages=prompts.messages(question.text, question.history, passages),
        max_tokens=question.max_tokens or settings.max_tokens,
        temperature=settings.temperature if greedy else question.temperature,
        top_p=question.top_p,
        seed=question.seed,
        stop=list(question.stop) or None,
    )


async def _model(services: Services, question: Question) -> str:
    """Return the model to ask: the question's, the settings', or the first that is served."""
    if named := question.model or services.settings.llm_model:
        return named
    models = await services.llm.models()
    if not models:
        raise LLMUnavailableError(
            f"The LLM service at {services.llm.url} lists no model. Check how it was started."
        )
    return models[0].id


def _now() -> float:
    return asyncio.get_running_loop().time()


def _left(deadline: float) -> float:
    """Return the seconds to `deadline`, a moment at least: the client then says that it passed."""
    return max(0.001, deadline - _now())


def _headers(question: Question) -> dict[str, str]:
    given = {headers.REQUEST_ID: question.request_id, headers.TRACEPARENT: question.traceparent}
    return {name: value for name, value in given.items() if value is not None}
