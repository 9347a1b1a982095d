"""`/mcp`: the gateway's abilities as tools for agents, over MCP's streamable HTTP.

Sessions hold no state, so that any replica can answer any request. Keys and limits are those of the
HTTP routes: a key is asked for before MCP sees a request, and each tool call counts as one request.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import FastAPI
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.transport_security import TransportSecuritySettings
from mcp.types import CallToolResult, TextContent
from pydantic import Field
from starlette.datastructures import Headers
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from contracts import headers
from contracts.errors import CodedError
from contracts.openai import ChatCompletionRequest, ChatMessage
from rag_graph.llm.transcript import Piece
from rag_graph.state import DEFAULT_COLLECTION, Answered, Question, SearchQuery, Token
from serve_app import guard
from serve_app.auth import Key, Right
from serve_app.chat import Events, begun
from serve_app.errors import DegradedError, RequestError
from serve_app.responses import error_response
from serve_app.routes.search import MAX_TOP_K
from serve_app.services import Services

PATH = "/mcp"
TopK = Annotated[int | None, Field(ge=1, le=MAX_TOP_K, description="Passages wanted.")]
Collection = Annotated[str, Field(description="Collection to search; see list_collections.")]


def server(services: Services) -> MCPServer:
    """Return the MCP server with its tools."""
    mcp = MCPServer(
        "isthmus",
        instructions="Answers from documents, with citations.",
        log_level="WARNING",  # it sets up the process's logging: INFO has every LLM call in it
    )
    tools = _Tools(services)
    mcp.tool()(tools.ask)
    mcp.tool()(tools.search_documents)
    mcp.tool()(tools.list_collections)
    mcp.tool()(tools.generate)
    return mcp


class _Tools:
    """The tools. Their docstrings are what an agent reads."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def ask(
        self,
        ctx: Context[Any, Any],
        question: str,
        collection: Collection = DEFAULT_COLLECTION,
        top_k: TopK = None,
    ) -> Annotated[CallToolResult, dict[str, Any]]:
        """Answer a question from the documents. Progress messages carry the text as it comes.

        The result has the `answer`, its `citations`, and how it came about in `isthmus`: with
        `degraded` a part did not work, and `grounded` says whether the answer rests on the
        documents. An error because no model could answer has the `passages` that were found.
        """
        with _tool_errors():
            key = await self._authorize(ctx, "ask", collection)
            asked = Question(question, collection=collection, top_k=top_k)
            try:
                answer = await begun(guard.ask(self._services, key, asked))
            except DegradedError as error:
                return _degraded(error)
            return _answer(await _last(ctx, answer.events))

    async def search_documents(
        self,
        ctx: Context[Any, Any],
        query: str,
        collection: Collection = DEFAULT_COLLECTION,
        top_k: TopK = None,
    ) -> dict[str, Any]:
        """Find the passages of the documents that match a query, best first."""
        with _tool_errors():
            await self._authorize(ctx, "ask", collection)
            passages = await self._services.search(SearchQuery(query, collection, top_k))
            return {"passages": [asdict(passage) for passage in passages]}

    async def list_collections(self, ctx: Context[Any, Any]) -> dict[str, list[str]]:
        """List the collections of documents that can be searched."""
        with _tool_errors():
            key = await self._services.admit(_headers(ctx))
            names = await self._services.collections()
            return {"collections": [name for name in names if key.sees(name)]}

    async def generate(
        self,
        ctx: Context[Any, Any],
        prompt: str,
        max_tokens: Annotated[int, Field(ge=1, description="Longest answer, tokens.")] = 256,
        temperature: Annotated[float, Field(ge=0, le=2)] = 0.0,
    ) -> dict[str, Any]:
        """Generate text with the LLM alone, without any documents."""
        with _tool_errors():
            key = await self._authorize(ctx, "ask", None)
            services, sent = self._services, _headers(ctx)
            request = ChatCompletionRequest(
                model=services.rag.llm_model or (await services.llm.models())[0].id,
                messages=[ChatMessage(role="user", content=prompt)],
                max_tokens=max_tokens,
                temperature=temperature,
            )
            text: list[str] = []
            outputs = guard.generate(services, key, request, services.rag.timeout_s, sent)
            async with aclosing(outputs):
                async for output in outputs:
                    if isinstance(output, Piece):
                        text.append(output.text)
                        await ctx.report_progress(len(text), message=output.text)
            return {"text": "".join(text)}

    async def _authorize(self, ctx: Context[Any, Any], right: Right, collection: str | None) -> Key:
        return await self._services.authorize(_headers(ctx), right, collection)


async def _last(ctx: Context[Any, Any], events: Events) -> Answered:
    """Report the text as it comes; return the end of the answer.

    Raises:
        ToolError: it has none.
    """
    pieces = 0
    async with aclosing(events):
        async for event in events:
            if isinstance(event, Token):
                pieces += 1
                await ctx.report_progress(pieces, message=event.text)
            elif isinstance(event, Answered):
                return event
    raise ToolError("The answer ended in the middle. Ask again.")


def _answer(answered: Answered) -> CallToolResult:
    return _result(
        {
            "answer": answered.text,
            "citations": [asdict(citation) for citation in answered.citations],
            "isthmus": {"llm_model": answered.model, **answered.metadata},
        }
    )


def _degraded(error: DegradedError) -> CallToolResult:
    """Return what the HTTP route answers, as an error: `retry_after` is the header of that name."""
    response = error_response(error)
    body = json.loads(bytes(response.body))
    if again := response.headers.get(headers.RETRY_AFTER):
        body["retry_after"] = int(again)
    return _result(body, is_error=True)


def _result(body: dict[str, Any], *, is_error: bool = False) -> CallToolResult:
    """Return a result that says the same to programs and, as text, to models."""
    text = TextContent(type="text", text=json.dumps(body, ensure_ascii=False, indent=2))
    return CallToolResult(content=[text], structured_content=body, is_error=is_error)


@contextmanager
def _tool_errors() -> Iterator[None]:
    """Tell the agent of our own errors as a tool's result; any other is the server's fault."""
    try:
        yield
    except CodedError as error:
        raise ToolError(str(error)) from error


def _headers(ctx: Context[Any, Any]) -> Headers:
    return Headers(dict(ctx.headers or {}))


class Endpoint:
    """The MCP server as a route of the gateway."""

    def __init__(self, services: Services) -> None:
        # Hosts differ behind every ingress; `middleware.SameOrigin` guards against other pages.
        security = TransportSecuritySettings(enable_dns_rebinding_protection=False)
        self._services = services
        self._inner = server(services).streamable_http_app(
            streamable_http_path=PATH, stateless_http=True, transport_security=security
        )

    def add_to(self, api: FastAPI) -> None:
        """Serve `PATH` on `api`, whose lifespan has to contain `lifespan`."""
        api.router.routes.append(Route(PATH, _Keyed(self._inner, self._services)))

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Requests can be answered while this context lasts."""
        async with self._inner.router.lifespan_context(self._inner):
            yield


class _Keyed:
    """Asks for a key before MCP sees a request."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._services.identify(Headers(scope=scope))
        except RequestError as error:
            await error_response(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)
