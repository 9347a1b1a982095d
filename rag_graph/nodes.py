"""The graph's nodes: small functions from the state to what they add to it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Annotated, Any, Literal, TypeAlias, TypedDict

from langgraph.channels import UntrackedValue
from langgraph.runtime import Runtime

from contracts.openai import ChatCompletionRequest, ChatMessage
from rag_graph import calls, generation, prompts, questions
from rag_graph import consult as consulting
from rag_graph.calls import Call, Services
from rag_graph.citations import cite
from rag_graph.evidence import evidence, is_enough
from rag_graph.llm.transcript import End
from rag_graph.routing import Decision, ModelEntry, Task
from rag_graph.state import Answered, Passage, Question, Retrieved, SearchQuery, Token

Update: TypeAlias = dict[str, Any]
Message: TypeAlias = dict[str, Any]
"""Of a thread: `role`, `content`, and an answer's `citations`. Plain, since it is stored."""

_ROUTES = ("conversation", "lookup", "multi_hop")
"""By how many searches an answer took."""
NOT_FOUND = "I could not find this in the documents."


TITLE_CHARS = 80
MOST_MESSAGES = 400
"""Messages that a thread keeps; older ones are forgotten."""


def _remembered(before: list[Message], said: list[Message]) -> list[Message]:
    return [*before, *said][-MOST_MESSAGES:]


class Input(TypedDict):
    """What the graph is started with."""

    question: Annotated[Question, UntrackedValue]
    deadline: Annotated[float, UntrackedValue]
    """The event loop's time by which the answer has to be there."""
    standalone: Annotated[str, UntrackedValue]
    """The question as it can be understood without the conversation."""
    queries: Annotated[tuple[str, ...], UntrackedValue]
    """What to search for."""


class State(Input, total=False):
    """What the nodes have found out so far. What is `UntrackedValue` no checkpoint keeps."""

    messages: Annotated[list[Message], _remembered]
    """What was said in the thread, oldest first; kept."""
    thread: dict[str, str]
    """The thread's title, and when it began; kept."""
    passages: Annotated[tuple[Passage, ...], UntrackedValue]
    """Those sent to the model: marker [n] is the n-th."""
    evidence: Annotated[float | None, UntrackedValue]
    tools: Annotated[list[dict[str, Any]], UntrackedValue]
    """The tool calls made, and what came of them."""
    calls: Annotated[tuple[Call, ...], UntrackedValue]
    """Those that models answered, in their order."""
    unaided: Annotated[tuple[str, ...], UntrackedValue]
    """Steps that no model could help with."""
    decision: Annotated[Decision, UntrackedValue]
    model: Annotated[ModelEntry, UntrackedValue]
    """The one that answered."""
    timings: Annotated[dict[str, float], UntrackedValue]
    """Seconds by node."""
    text: Annotated[str, UntrackedValue]
    end: Annotated[End, UntrackedValue]
    removed_markers: Annotated[int, UntrackedValue]
    repetition_stopped: Annotated[bool, UntrackedValue]
    abstained: Annotated[bool, UntrackedValue]


def begin(question: Question, services: Services) -> Input:
    """Return what the graph starts with: the question as it is, to be searched for."""
    timeout_s = question.timeout_s or services.settings.timeout_s
    return {
        "question": question,
        "deadline": _now() + timeout_s,
        "standalone": question.text,
        "queries": (question.text,),
    }


async def after_start(
    state: State, runtime: Runtime[Services]
) -> Literal["contextualize", "converse", "decompose", "retrieve"]:
    """Decide whether the question may refer to earlier turns; a first one goes its way at once."""
    history = _history(state, runtime.context)
    if _searches(state["question"], history) and any(turn.role == "user" for turn in history):
        return "contextualize"
    return await route(state, runtime)


async def contextualize(state: State, runtime: Runtime[Services]) -> Update:
    """Make a follow-up understandable alone."""
    services, question = runtime.context, state["question"]
    history = _history(state, services)
    prompt = questions.rewrite_prompt(question.text, history)
    reply = await calls.complete(services, question, prompt, state["deadline"])
    text = questions.standalone(question.text, history, reply.text)
    return {"standalone": text, "queries": (text,), **_helped("contextualize", state, reply)}


def _history(state: State, services: Services) -> tuple[ChatMessage, ...]:
    """Return what the question may refer to: turns sent with it, then the thread's latest."""
    latest = state.get("messages", [])[-services.settings.memory_turns :]
    told = (ChatMessage(role=turn["role"], content=turn["content"]) for turn in latest)
    return (*state["question"].history, *told)


def _searches(question: Question, history: Sequence[ChatMessage]) -> bool:
    """Return whether documents are searched."""
    if question.retrieval == "auto":
        return not questions.is_small_talk(question.text, history)
    return question.retrieval == "always"


async def route(
    state: State, runtime: Runtime[Services]
) -> Literal["converse", "decompose", "retrieve"]:
    """Decide whether to search at all, and whether to take the question apart.

    A coroutine, as all that decide: LangGraph sends a plain function to a thread.
    """
    if not _searches(state["question"], _history(state, runtime.context)):
        return "converse"
    hops = questions.is_multi_hop(state["standalone"])
    return "decompose" if hops and runtime.context.settings.max_parts else "retrieve"


async def converse(state: State, runtime: Runtime[Services]) -> Update:
    """Search for nothing: the conversation alone is answered from."""
    runtime.context.tell(Retrieved(()))
    return {"queries": (), "passages": (), "evidence": None}


async def decompose(state: State, runtime: Runtime[Services]) -> Update:
    """Take a multi-hop question apart."""
    services, most = runtime.context, runtime.context.settings.max_parts
    prompt = questions.decompose_prompt(state["standalone"], most)
    reply = await calls.complete(services, state["question"], prompt, state["deadline"], most)
    queries = questions.parts(state["standalone"], reply.text, most)
    return {"queries": queries, **_helped("decompose", state, reply)}


def _helped(step: str, state: State, reply: calls.Reply) -> Update:
    """Return what a call for help adds to the state."""
    if reply.call is None:
        return {"unaided": (*state.get("unaided", ()), step)}
    return {"calls": (*state.get("calls", ()), reply.call)}


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
    if not uses_tools(state, services):  # whose results are passages too
        runtime.context.tell(Retrieved(passages))
    update: Update = {"passages": passages, "evidence": evidence(state["standalone"], found)}
    if services.settings.reranks and any(passage.relevance is None for passage in found):
        update["unaided"] = (*state.get("unaided", ()), "rerank")
    return update


def merge(found: Sequence[Sequence[Passage]]) -> list[Passage]:
    """Return the passages of all searches, each once: all first places, all second places, …"""
    merged: dict[str, Passage] = {}
    for places in zip_longest(*found):
        for passage in places:
            if passage is not None:
                merged.setdefault(passage.chunk_id, passage)
    return list(merged.values())


def uses_tools(state: State, services: Services) -> bool:
    """Whether tools are asked besides the documents: for a multi-hop question, if there are any."""
    return services.tools is not None and questions.is_multi_hop(state["standalone"])


async def after_retrieve(
    state: State, runtime: Runtime[Services]
) -> Literal["consult", "generate", "abstain"]:
    """Decide whether tools are asked, and else whether there is enough to answer from."""
    return "consult" if uses_tools(state, runtime.context) else await grade(state, runtime)


async def consult(state: State, runtime: Runtime[Services]) -> Update:
    """Let a model call tools; their results join the passages."""
    services, question = runtime.context, state["question"]
    found = await consulting.consult(
        services, question, state["standalone"], state["passages"], state["deadline"]
    )
    both = merge([found.passages, state["passages"]])
    passages = prompts.select(both, services.settings.context_tokens)
    runtime.context.tell(Retrieved(passages))
    return {
        "passages": passages,
        "tools": found.told(),
        "calls": (*state.get("calls", ()), *found.calls),
        "unaided": (*state.get("unaided", ()), *found.unaided),
        # What a tool was asked for is about the question: no evidence is known, which is enough.
        "evidence": None if found.passages else state["evidence"],
    }


async def grade(state: State, runtime: Runtime[Services]) -> Literal["generate", "abstain"]:
    """Decide whether there is enough to answer from."""
    threshold = runtime.context.settings.min_evidence
    enough = bool(state["passages"]) and is_enough(state["evidence"], threshold)
    return "generate" if enough else "abstain"


async def abstain(state: State, runtime: Runtime[Services]) -> Update:
    """Say plainly that the documents hold no answer; no model is asked."""
    runtime.context.tell(Token(NOT_FOUND))
    model = state["question"].model or runtime.context.settings.llm_model or "none"
    end = End("stop", None, model)
    return {"text": NOT_FOUND, "end": end, "removed_markers": 0, "abstained": True}


async def generate(state: State, runtime: Runtime[Services]) -> Update:
    """Stream the answer of a model, less markers that point nowhere and repetitions."""
    services, question, passages = runtime.context, state["question"], state["passages"]
    history = _history(state, services)
    messages = (
        prompts.messages(question.text, history, passages)
        if state["queries"]
        else prompts.conversation(question.text, history)
    )
    task: Task = "multi_hop" if len(state["queries"]) > 1 else "lookup"
    wanted = calls.answering(services, question, task, messages)
    decision = await calls.decide(services, question, wanted)
    request = _request(services, question, messages, decision)
    answers = calls.stream(services, question, decision, request, state["deadline"])
    numbered = len(passages) if state["queries"] else None
    written = await generation.write(answers, numbered, wanted.prompt_tokens, runtime.context.tell)
    return {
        "text": written.text,
        "end": written.end,
        "model": written.model,
        "calls": (*state.get("calls", ()), Call(written.model, written.usage)),
        "decision": decision,
        "removed_markers": written.removed_markers,
        "repetition_stopped": written.repetition_stopped,
        "abstained": False,
    }


async def finish(state: State, runtime: Runtime[Services]) -> Update:
    """Attach the citations and end the stream."""
    end = state["end"]
    answered = Answered(
        text=state["text"],
        citations=() if state["abstained"] else cite(state["text"], state["passages"]),
        finish_reason=end.finish_reason,
        usage=end.usage,
        model=end.model,
        metadata=_metadata(state),
    )
    runtime.context.tell(answered)
    return {} if state["question"].thread_id is None else _said(state, answered)


def _said(state: State, answered: Answered) -> Update:
    """Return what the thread remembers of question and answer."""
    question = state["question"].text
    citations = [asdict(citation) for citation in answered.citations]
    begun = {"title": question[:TITLE_CHARS], "created": datetime.now(UTC).isoformat()}
    return {
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answered.text, "citations": citations},
        ],
        "thread": state.get("thread") or begun,
    }


def _metadata(state: State) -> dict[str, Any]:
    found = state["evidence"]
    return {
        "standalone_question": state["standalone"],
        "queries": list(state["queries"]),
        "evidence": None if found is None else round(found, 3),
        "abstained": state["abstained"],
        "removed_markers": state["removed_markers"],
        "repetition_stopped": state.get("repetition_stopped", False),
        "unaided": list(state.get("unaided", ())),
        "tools": state.get("tools", []),
        **_routing(state),
        **_spent(state.get("calls", ())),
        "timings_ms": {name: round(s * 1e3, 1) for name, s in state.get("timings", {}).items()},
    }


def _routing(state: State) -> dict[str, Any]:
    """Return who answered and why."""
    if state["abstained"]:
        return {"route": "abstain", "model": None, "reason": "not enough evidence"}
    chain = [entry.name for entry in state["decision"].chain]
    used = state["model"].name
    return {
        "route": _ROUTES[min(len(state["queries"]), 2)],
        "model": used,
        "reason": state["decision"].reason,
        "failed_over": chain[: chain.index(used)],
    }


def _spent(made: Sequence[Call]) -> dict[str, Any]:
    """Return the tokens and the price of all calls, helpers' included."""
    counted = [call.usage for call in made if call.usage is not None]
    return {
        "llm_calls": len(made),
        "tokens": {
            "prompt": sum(usage.prompt_tokens for usage in counted),
            "completion": sum(usage.completion_tokens for usage in counted),
        },
        "cost": round(sum(call.cost for call in made), 9),
    }


def _request(
    services: Services, question: Question, messages: list[ChatMessage], decision: Decision
) -> ChatCompletionRequest:
    settings = services.settings
    greedy = question.temperature is None
    return ChatCompletionRequest(
        model=decision.chain[0].name,
        messages=messages,
        max_tokens=question.max_tokens or settings.max_tokens,
        temperature=settings.temperature if greedy else question.temperature,
        top_p=question.top_p,
        seed=question.seed,
        stop=list(question.stop) or None,
    )


def _now() -> float:
    return asyncio.get_running_loop().time()
