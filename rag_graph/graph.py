"""The LangGraph graph: wiring only. What happens in a node is in `nodes`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Protocol, cast, get_args, get_type_hints

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command

from rag_graph import nodes
from rag_graph.calls import SearchFn, Services
from rag_graph.llm.pool import LLM
from rag_graph.memory import Memory
from rag_graph.nodes import Input, State, Update
from rag_graph.settings import RagSettings
from rag_graph.state import Answered, Event, Question
from rag_graph.tools import open_toolbox

_Graph = StateGraph[State, Services, Input, State]
Compiled = CompiledStateGraph[State, Services, Input, State]


def build(saver: BaseCheckpointSaver[Any] | None = None) -> Compiled:
    """Return the graph, remembering with a `saver`. Its drawing is in docs/retrieval.md."""
    graph = StateGraph(State, context_schema=Services, input_schema=Input)
    _add(graph, "contextualize", nodes.contextualize, nodes.route)
    graph.add_node("converse", nodes.converse)
    graph.add_node("decompose", _timed("decompose", nodes.decompose))
    _add(graph, "retrieve", nodes.retrieve, nodes.after_retrieve)
    _add(graph, "consult", nodes.consult, nodes.grade)
    graph.add_node("generate", _cited(_timed("generate", nodes.generate)))
    graph.add_node("abstain", _cited(nodes.abstain))
    graph.add_conditional_edges(START, nodes.after_start)
    graph.add_edge("converse", "generate")
    graph.add_edge("decompose", "retrieve")
    graph.add_edge("generate", END)
    graph.add_edge("abstain", END)
    return graph.compile(checkpointer=saver)


class _Node(Protocol):
    def __call__(self, state: State, runtime: Runtime[Services]) -> Awaitable[Update]: ...


class _Decision(Protocol):
    def __call__(self, state: State, runtime: Runtime[Services]) -> Awaitable[str]: ...


def _add(graph: _Graph, name: str, node: _Node, decide: _Decision) -> None:
    """Add a node that says itself, by `decide`, where to go on.

    A conditional edge would read the whole state anew for that: a twelfth of the graph's own CPU.
    """
    timed = _timed(name, node)

    async def run(state: State, runtime: Runtime[Services]) -> Command[str]:
        update = await timed(state, runtime)
        return Command(update=update, goto=await decide(_after(state, update), runtime))

    graph.add_node(name, run, destinations=get_args(get_type_hints(decide)["return"]))


def _cited(node: _Node) -> _Node:
    """Return the node, which then attaches the citations and ends the stream.

    Not as a node of its own: one more step is a sixth of the graph's own CPU.
    """

    async def run(state: State, runtime: Runtime[Services]) -> Update:
        update = await node(state, runtime)
        return {**update, **await nodes.finish(_after(state, update), runtime)}

    return run


def _after(state: State, update: Update) -> State:
    return cast(State, {**state, **update})


def _timed(name: str, node: _Node) -> _Node:
    """Return the node, which then tells how long it took."""

    async def run(state: State, runtime: Runtime[Services]) -> Update:
        begun = time.monotonic()
        update = await node(state, runtime)
        return {**update, "timings": {**state.get("timings", {}), name: time.monotonic() - begun}}

    return run


class RagGraph:
    """Answers questions. One instance serves any number of them at once."""

    def __init__(
        self, search: SearchFn, llm: LLM, settings: RagSettings, memory: Memory | None = None
    ) -> None:
        """Make a graph.

        Args:
            search: what finds passages.
            llm: who answers.
            settings: how.
            memory: the threads; None for those of `settings`.

        Raises:
            ToolTableError: the table of MCP servers cannot be used.
        """
        self._services = Services(search, llm, settings, open_toolbox(settings))
        self._memory = memory or Memory(settings)
        self._graph = build()
        self._remembering: Compiled | None = None

    async def answer(self, question: Question) -> AsyncGenerator[Event, None]:
        """Yield one `Retrieved`, any number of `Token`, and one `Answered`.

        Closing the generator cancels what is going on, the LLM service's work included. A thread
        remembers the question once it is answered, not before.

        Raises:
            RagError: retrieval, generation or memory failed, at any point of the stream.
        """
        if question.thread_id is None:
            async with aclosing(self._stream(self._graph, question, None)) as events:
                async for event in events:
                    yield event
            return
        answered: Answered | None = None
        async with self._memory.turn(question.tenant, question.thread_id) as turn:
            self._remembering = self._remembering or build(turn.saver)
            async with aclosing(self._stream(self._remembering, question, turn.config)) as events:
                async for event in events:
                    if isinstance(event, Answered):
                        answered = event  # many readers go at the last event: first remember
                    else:
                        yield event
        if answered is not None:
            yield answered

    async def _stream(
        self, graph: Compiled, question: Question, config: RunnableConfig | None
    ) -> AsyncGenerator[Event, None]:
        """Run the graph in a task of its own, and yield what its nodes tell.

        Past LangGraph's custom stream, which waits for a task and a future at each event.
        """
        told: asyncio.Queue[Event | None] = asyncio.Queue()
        run = asyncio.create_task(self._run(graph, question, config, told.put_nowait))
        run.add_done_callback(lambda _: told.put_nowait(None))
        try:
            while (event := await told.get()) is not None:
                yield event
            await run
        finally:
            if run.cancel():
                await asyncio.gather(run, return_exceptions=True)
            elif not run.cancelled():
                run.exception()  # seen, though nobody may be there to be told

    async def _run(
        self,
        graph: Compiled,
        question: Question,
        config: RunnableConfig | None,
        tell: Callable[[Event], None],
    ) -> None:
        """Run the graph to its end; what its nodes `tell` is all that is wanted of it."""
        steps = graph.astream(
            nodes.begin(question, self._services),
            config,
            context=replace(self._services, tell=tell),
            stream_mode=[],
            output_keys="abstained",  # not all of the state, which would be read once more
            durability="exit" if config else None,  # one write a turn, when it is whole
        )
        async for _ in steps:
            pass
