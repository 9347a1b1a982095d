"""Calls of a model, for the nodes: whom to ask, with what, and who takes over when it fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from urllib.parse import quote

from contracts import headers
from contracts.openai import ChatCompletionRequest, ChatMessage, Usage
from contracts.tools import Message, Tool, ToolRequest
from rag_graph import questions, routing
from rag_graph.errors import LLMStreamError, LLMUnavailableError
from rag_graph.llm.pool import LLM
from rag_graph.llm.router import ModelRouter
from rag_graph.llm.transcript import End, Output, ToolCall
from rag_graph.routing import Decision, ModelEntry, Task, Wanted
from rag_graph.settings import RagSettings
from rag_graph.state import Event, Passage, Question, SearchQuery
from rag_graph.tools import Toolbox

SearchFn = Callable[[SearchQuery], Awaitable[list[Passage]]]

ANY_MODEL = "any"
"""Stands in a request until it is decided whom to ask."""
TOOL_CALL_TOKENS = 256
"""Longest list of tool calls with their arguments."""
REMEMBERED_S = 5.0
"""How long the LLM service's model is taken to be the same."""

log = logging.getLogger(__name__)


class FirstModel:
    """The first model that the LLM service lists, remembered for a moment: a request less each."""

    def __init__(self) -> None:
        self._name, self._until = "", 0.0

    async def of(self, llm: LLM) -> str:
        """Return its name.

        Raises:
            LLMError: the service does not say, or has none.
        """
        now = asyncio.get_running_loop().time()
        if not self._name or now > self._until:
            models = await llm.models()
            if not models:
                raise LLMUnavailableError(
                    f"The LLM service at {llm.url} lists no model. Check how it was started."
                )
            self._name, self._until = models[0].id, now + REMEMBERED_S
        return self._name


@dataclass(frozen=True, slots=True)
class Services:
    """What the nodes work with; but for `tell`, the same for every question."""

    search: SearchFn
    llm: LLM
    settings: RagSettings
    tools: Toolbox | None = None
    first_model: FirstModel = field(default_factory=FirstModel)
    tell: Callable[[Event], None] = lambda _: None
    """Passes an event on to who asked this question."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call that a model answered, and what it took."""

    model: ModelEntry
    usage: Usage | None

    @property
    def cost(self) -> float:
        """Its price; 0 where the table has none, or the model did not count."""
        used = self.usage
        return self.model.cost(used.prompt_tokens, used.completion_tokens) if used else 0.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model said to a request of our own; None where none could be had."""

    text: str
    call: Call | None
    tool_calls: tuple[ToolCall, ...] = ()


async def decide(services: Services, question: Question, wanted: Wanted) -> Decision:
    """Return whom to ask: by the table, or the one model that there is.

    Raises:
        LLMRequestError: the model asked for is not in the table.
        LLMUnavailableError: the one model's name cannot be found out.
    """
    llm = services.llm
    if isinstance(llm, ModelRouter):
        return routing.decide(llm.table, wanted, llm.healthy)
    name = question.model or services.settings.llm_model or await services.first_model.of(llm)
    return Decision((ModelEntry(name=name),), "the only model")


async def stream(
    services: Services,
    question: Question,
    decision: Decision,
    request: ChatCompletionRequest,
    deadline: float,
) -> AsyncGenerator[tuple[ModelEntry, Output], None]:
    """Yield what the first model of the chain that can answer says, with who it is.

    Once a token came nobody takes over: a second answer would contradict what the reader saw.

    Raises:
        LLMError: the last of the chain failed, or the first that had begun.
    """
    for number, entry in enumerate(decision.chain, 1):
        begun, rest = False, decision.chain[number:]
        asked = request.model_copy(update={"model": entry.name})
        outputs = _asked(services.llm, asked, deadline, question, rest)
        try:
            async with aclosing(outputs):
                async for output in outputs:
                    begun = True
                    yield entry, output
        except (LLMUnavailableError, LLMStreamError) as error:
            if begun or not rest:
                raise
            log.warning("The model %s cannot answer, the next is asked: %s", entry.name, error)
        else:
            return


def _asked(
    llm: LLM,
    request: ChatCompletionRequest,
    deadline: float,
    question: Question,
    rest: Sequence[ModelEntry],
) -> AsyncGenerator[Output, None]:
    """Return what the model of the request says; those of `rest` that are well could take over."""
    if isinstance(llm, ModelRouter):
        spare = any(llm.healthy(other.name) for other in rest)
        return llm.stream(request, _left(deadline), _headers(question), spare=spare)
    return llm.stream(request, _left(deadline), _headers(question))


async def complete(
    services: Services,
    question: Question,
    messages: Sequence[ChatMessage],
    deadline: float,
    lines: int = 1,
) -> Reply:
    """Ask a model for help with the question. If none can help, the question stands as it is.

    Raises:
        LLMRequestError: the model asked for does not exist.
        LLMTimeoutError: the deadline passed.
    """
    most = questions.REWRITE_TOKENS * lines
    request = ChatCompletionRequest(
        model=ANY_MODEL, messages=list(messages), max_tokens=most, temperature=0.0
    )
    return await _helped(services, question, "rewrite", request, deadline)


async def choose_tools(
    services: Services,
    question: Question,
    messages: Sequence[Message],
    tools: Sequence[Tool],
    deadline: float,
) -> Reply:
    """Ask a model which tools to call next. If none can say, none are called.

    Raises:
        LLMRequestError: the model asked for does not exist, or takes no tools.
        LLMTimeoutError: the deadline passed.
    """
    request = ToolRequest(
        model=ANY_MODEL,
        messages=list(messages),
        tools=list(tools),
        max_tokens=TOOL_CALL_TOKENS,
        temperature=0.0,
    )
    return await _helped(services, question, "multi_hop", request, deadline)


async def _helped(
    services: Services,
    question: Question,
    task: Task,
    request: ChatCompletionRequest,
    deadline: float,
) -> Reply:
    """Return what the model that suits the task says to a request of our own."""
    wanted = _wanted(services, question, task, request.messages, request.max_tokens or 0)
    try:
        decision = await decide(services, question, wanted)
        return await _whole(stream(services, question, decision, request, deadline))
    except (LLMUnavailableError, LLMStreamError) as error:
        log.warning("No model helps with the question, it is taken as it is: %s", error)
        return Reply("", None)


def answering(
    services: Services, question: Question, task: Task, messages: Sequence[ChatMessage]
) -> Wanted:
    """Return what the answer itself asks of a model."""
    most = question.max_tokens or services.settings.max_tokens
    return _wanted(services, question, task, messages, most)


def _wanted(
    services: Services,
    question: Question,
    task: Task,
    messages: Sequence[ChatMessage],
    answer_tokens: int,
) -> Wanted:
    tokens = routing.estimate_tokens(messages)
    return Wanted(task, tokens, answer_tokens, question.model, services.settings.answer_budget)


async def _whole(outputs: AsyncGenerator[tuple[ModelEntry, Output], None]) -> Reply:
    text: list[str] = []
    async with aclosing(outputs):
        async for entry, output in outputs:
            if isinstance(output, End):
                return Reply("".join(text), Call(entry, output.usage), output.tool_calls)
            text.append(output.text)
    raise AssertionError("a stream of a model ended without its end")


def _left(deadline: float) -> float:
    """Return the seconds to `deadline`; from 0 down the client says that it passed."""
    return deadline - asyncio.get_running_loop().time()


def _headers(question: Question) -> dict[str, str]:
    given = {
        headers.REQUEST_ID: question.request_id,
        headers.TRACEPARENT: question.traceparent,
        headers.TENANT: quote(question.tenant),
    }
    return {name: value for name, value in given.items() if value is not None}
