"""Tools in the agentic branch: a model chooses calls, their results become passages."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from contracts.tools import CalledFunction, Message
from contracts.tools import ToolCall as SentCall
from rag_graph import calls, prompts, tools
from rag_graph.calls import Call, Services
from rag_graph.errors import LLMRequestError, ToolError
from rag_graph.llm.transcript import ToolCall
from rag_graph.state import Passage, Question
from rag_graph.tools import Offered

HEAD = (
    "Call the tools that can find what the passages lack to answer the question. Call none if "
    "they hold the answer."
)
MAX_CALLS = 8
"""Calls of one round that are made; the rest is told to be too many."""
RESULT_CHARS = 4000
"""Longest result of a call that is kept."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Used:
    """A call that a model wanted, and what came of it; JSON-able."""

    tool: str
    arguments: str
    ok: bool
    ms: float
    reason: str = ""
    """Why it failed."""


@dataclass(slots=True)
class Consulted:
    """What the tools said."""

    passages: list[Passage] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    used: list[Used] = field(default_factory=list)
    unaided: list[str] = field(default_factory=list)
    """What could not be had: servers, or a model to choose."""

    def told(self) -> list[dict[str, Any]]:
        """Return the calls for an answer's metadata."""
        return [asdict(used) for used in self.used]


async def consult(
    services: Services,
    question: Question,
    standalone: str,
    passages: Sequence[Passage],
    deadline: float,
) -> Consulted:
    """Let a model call tools until it has enough, or its steps or tokens are spent.

    Failures are told to the model and recorded; none of them ends the answer.

    Raises:
        LLMTimeoutError: the deadline passed.
    """
    found = Consulted()
    if services.tools is None:
        return found
    offered, failed = await services.tools.offered()
    found.unaided += [f"tools:{name}" for name in failed]
    if not offered:
        return found
    by_name = {tool.wire.function.name: tool for tool in offered}
    messages = _opening(standalone, passages)
    for _ in range(services.settings.tool_steps):
        wanted = await _choose(services, question, messages, by_name, deadline, found)
        new = [call for call in wanted if not _was_made(call, messages)]
        if not new:
            break
        messages += await _make(new, by_name, deadline, found)
        if _spent(found.calls) >= services.settings.tool_tokens:
            log.info("The tokens for tools are spent after %d calls.", len(found.used))
            break
    return found


def _opening(question: str, passages: Sequence[Passage]) -> list[Message]:
    return [
        Message(role="system", content="\n\n".join([HEAD, *prompts.blocks(passages)])),
        Message(role="user", content=question),
    ]


async def _choose(
    services: Services,
    question: Question,
    messages: Sequence[Message],
    by_name: Mapping[str, Offered],
    deadline: float,
    found: Consulted,
) -> tuple[ToolCall, ...]:
    """Return the calls that a model wants made next."""
    wires = [tool.wire for tool in by_name.values()]
    try:
        reply = await calls.choose_tools(services, question, messages, wires, deadline)
    except LLMRequestError as error:
        log.warning("The model takes no tools: %s", error)
        reply = calls.Reply("", None)
    if reply.call is None:
        found.unaided.append("consult")
        return ()
    found.calls.append(reply.call)
    return reply.tool_calls


def _was_made(call: ToolCall, messages: Iterable[Message]) -> bool:
    """Whether the same was called before: its result would be the same, and so would the next."""
    made = (sent.function for message in messages for sent in message.tool_calls or ())
    return any((f.name, f.arguments) == (call.name, call.arguments) for f in made)


async def _make(
    wanted: Sequence[ToolCall], by_name: Mapping[str, Offered], deadline: float, found: Consulted
) -> list[Message]:
    """Make the calls at once; return them and their results for the model."""
    made = wanted[:MAX_CALLS]
    texts = await asyncio.gather(*(_one(call, by_name, deadline, found) for call in made))
    sent = [_sent(call) for call in made]
    results = [
        Message(role="tool", tool_call_id=call.id, content=text)
        for call, text in zip(made, texts, strict=True)
    ]
    return [Message(role="assistant", tool_calls=sent), *results]


def _sent(call: ToolCall) -> SentCall:
    """Return the call as the model is reminded of it; arguments that are no object are left out."""
    try:
        function = CalledFunction(name=call.name, arguments=call.arguments)
    except ValueError:
        function = CalledFunction(name=call.name, arguments="{}")
    return SentCall(id=call.id, type="function", function=function)


async def _one(
    call: ToolCall, by_name: Mapping[str, Offered], deadline: float, found: Consulted
) -> str:
    """Make a call, record it, and return what the model is told of it."""
    begun = time.monotonic()
    try:
        text = await _result(call, by_name, deadline)
    except ToolError as error:
        log.warning("%s", error)
        found.used.append(_used(call, begun, str(error)))
        return f"Error: {error}"
    found.used.append(_used(call, begun))
    if text:
        found.passages.append(_passage(by_name[call.name], call.arguments, text))
    return text or "Nothing was found."


async def _result(call: ToolCall, by_name: Mapping[str, Offered], deadline: float) -> str:
    if call.name not in by_name:
        raise ToolError(f"There is no tool {call.name!r}; there are: {', '.join(by_name)}.")
    left = deadline - asyncio.get_running_loop().time()
    return (await tools.call(by_name[call.name], call.arguments, left))[:RESULT_CHARS]


def _used(call: ToolCall, begun: float, reason: str = "") -> Used:
    ms = round((time.monotonic() - begun) * 1e3, 1)
    return Used(call.name, call.arguments, not reason, ms, reason)


def _passage(tool: Offered, arguments: str, text: str) -> Passage:
    """Return a result as what can be cited."""
    source = f"mcp:{tool.server.name}/{tool.name}"
    digest = hashlib.sha256(f"{source}\n{arguments}\n{text}".encode()).hexdigest()[:16]
    title = f"{tool.server.name}: {tool.name}"
    return Passage(digest, source, title, source, text, score=1.0, heading=arguments)


def _spent(made: Sequence[Call]) -> int:
    return sum(call.usage.total_tokens for call in made if call.usage is not None)
