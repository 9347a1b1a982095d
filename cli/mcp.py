"""`isthmus mcp`: the gateway's tools for agents that speak MCP over stdin and stdout.

Everything is passed on to the gateway's own `/mcp`: tools, results, progress. So there is one
definition of each tool, and keys and limits are the gateway's.
"""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import httpx2

from cli.errors import GatewayError, UsageError
from cli.settings import CliSettings

if TYPE_CHECKING:
    from mcp import Client
    from mcp.server.lowlevel import Server

CONNECT_TIMEOUT_S = 5.0
TOOL_TIMEOUT_S = 600.0
NOT_INSTALLED = "MCP is not installed here. Install it with: pip install 'isthmus[serve]'"


def mcp() -> None:
    """Serve the gateway's tools over stdin and stdout, as MCP clients start it."""
    try:
        import mcp as _  # noqa: F401 - whether there is one
    except ModuleNotFoundError as error:
        raise UsageError(NOT_INSTALLED) from error
    asyncio.run(_run(CliSettings()))


async def _run(settings: CliSettings) -> None:
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client
    from mcp.server.stdio import stdio_server

    key = settings.isthmus_api_key.get_secret_value()
    headers = {"authorization": f"Bearer {key}"} if key else {}
    timeout = httpx2.Timeout(TOOL_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    async with httpx2.AsyncClient(headers=headers, timeout=timeout) as http:
        await _check(http, settings.gateway_url)
        transport = streamable_http_client(f"{settings.gateway_url}/mcp", http_client=http)
        async with Client(transport) as gateway, stdio_server() as (incoming, outgoing):
            server = proxy(gateway)
            await server.run(incoming, outgoing, server.create_initialization_options())


async def _check(http: httpx2.AsyncClient, url: str) -> None:
    """Return if the gateway takes our key.

    Raises:
        GatewayError: it does not, or there is none.
    """
    try:
        answer = await http.get(f"{url}/v1/collections")
    except httpx2.HTTPError as error:
        raise GatewayError(
            f"There is no gateway at {url}. Start one with `isthmus up`, or set ISTHMUS_URL."
        ) from error
    if answer.status_code == 401:
        raise GatewayError(f"The gateway at {url} wants a key: set ISTHMUS_API_KEY to a valid one.")


def proxy(gateway: Client) -> Server[Any]:
    """Return a server that has the tools of `gateway`."""
    from mcp.server.context import ServerRequestContext
    from mcp.server.lowlevel import Server
    from mcp.types import (
        CallToolRequestParams,
        CallToolResult,
        ListToolsResult,
        PaginatedRequestParams,
    )

    async def list_tools(
        _: ServerRequestContext[Any], params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        return await gateway.list_tools(cursor=params.cursor if params else None)

    async def call_tool(
        context: ServerRequestContext[Any], params: CallToolRequestParams
    ) -> CallToolResult:
        progress = context.session.report_progress
        return await gateway.call_tool(params.name, params.arguments, progress_callback=progress)

    return Server(
        "isthmus",
        version=version("isthmus"),
        instructions=gateway.instructions,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )
