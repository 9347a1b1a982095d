"""An MCP server with tools that work, fail, are slow, or should not be called.

python -m tests.support.mcp_tools [PORT]        stdio without a port
"""

from __future__ import annotations

import asyncio
import os
import sys

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("house")


@server.tool()
def find_ticket(about: str) -> str:
    """Find tickets about GPU pools."""
    return "Ticket 4711: the GPU pools cost 12 euros per hour."


@server.tool()
def broken_meter(question: str) -> str:
    """Read the meter of the GPU pools."""
    raise ToolError("the meter is broken")


@server.tool()
async def slow_archive(question: str) -> str:
    """Search the archive about GPU pools."""
    await asyncio.sleep(30)
    return "too late"


@server.tool()
def dying_oracle(question: str) -> str:
    """Ask the oracle about GPU pools."""
    os._exit(3)


@server.tool()
def delete_everything(question: str) -> str:
    """Delete all GPU pools."""
    raise AssertionError("a tool outside the allow-list was called")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
    else:
        server.run("stdio")
