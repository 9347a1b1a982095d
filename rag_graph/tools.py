"""Tools of MCP servers, for questions that need more than the documents.

`RAG_MCP_FILE` names a TOML file. Only the tools that `allow` names are ever offered to a model:

    [[servers]]
    name = "tickets"
    url = "http://10.0.0.9:8000/mcp"         # or: command = ["python", "-m", "tickets.server"]
    allow = ["search_tickets"]
    timeout_s = 10                           # for one listing or call, the connection included

Each listing and each call has a connection of its own, so that a server that hangs or dies spoils
no other's: docs/decisions/0006-tools-by-the-mcp-sdk.md.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import tomllib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from mcp import Client, MCPError, StdioServerParameters
from mcp import types as mcp_types
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from contracts import errors
from contracts.tools import Function, Tool
from rag_graph.errors import ToolError, ToolTableError
from rag_graph.settings import RagSettings

LISTING_S = 300.0
"""For which the tools that a server listed are taken to be there."""
SEPARATOR = "__"
"""Between server and tool in the name that a model sees."""

log = logging.getLogger(__name__)


class ToolServer(BaseModel):
    """One MCP server, and the tools of it that may be used."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,24}$")]
    url: str = ""
    command: tuple[str, ...] = ()
    allow: Annotated[frozenset[str], Field(min_length=1)]
    timeout_s: Annotated[float, Field(gt=0)] = 10.0

    @model_validator(mode="after")
    def _check_address(self) -> Self:
        if bool(self.url) == bool(self.command):
            raise ValueError("a server has either a url or a command")
        return self

    @property
    def address(self) -> str | StdioServerParameters:
        """Where the SDK connects to."""
        if self.url:
            return self.url
        return StdioServerParameters(command=self.command[0], args=list(self.command[1:]))


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    servers: Annotated[tuple[ToolServer, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [server.name for server in self.servers]
        if len(set(names)) < len(names):
            raise ValueError(f"two servers have the same name, among {', '.join(names)}")
        return self


@dataclass(frozen=True, slots=True)
class Offered:
    """A tool that a model may call."""

    server: ToolServer
    name: str
    description: str
    parameters: dict[str, Any]
    """JSON schema of its arguments."""

    @property
    def wire(self) -> Tool:
        """What a model is told of it."""
        name = f"{self.server.name}{SEPARATOR}{self.name}"
        function = Function(
            name=name, description=self.description or None, parameters=self.parameters
        )
        return Tool(type="function", function=function)


def load(path: Path) -> tuple[ToolServer, ...]:
    """Read the table.

    Raises:
        ToolTableError: the file cannot be read or is not of its form.
    """
    try:
        return _Table.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))).servers
    except OSError as error:
        raise ToolTableError(f"RAG_MCP_FILE={path} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        reason = errors.from_validation_error(error).message
        raise ToolTableError(f"RAG_MCP_FILE={path}: {reason}") from error
    except ValueError as error:
        raise ToolTableError(f"RAG_MCP_FILE={path} is not TOML: {error}.") from error


class Toolbox:
    """The allowed tools of all servers. One serves any number of questions at once."""

    def __init__(self, servers: Sequence[ToolServer]) -> None:
        self._servers = servers
        self._listed: dict[str, tuple[float, list[Offered]]] = {}

    async def offered(self) -> tuple[list[Offered], list[str]]:
        """Return the tools at hand, and the names of the servers that did not list theirs."""
        found = await asyncio.gather(*map(self._of, self._servers))
        failed = [s.name for s, tools in zip(self._servers, found, strict=True) if tools is None]
        return [tool for tools in found for tool in tools or ()], failed

    async def _of(self, server: ToolServer) -> list[Offered] | None:
        until, tools = self._listed.get(server.name, (0.0, []))
        if time.monotonic() < until:
            return tools
        try:
            tools = await _list(server)
        except ToolError as error:
            log.warning("%s", error)
            return None
        self._listed[server.name] = (time.monotonic() + LISTING_S, tools)
        return tools


def open_toolbox(settings: RagSettings) -> Toolbox | None:
    """Return the tools of the servers that `settings` name, or None; nothing is connected yet.

    Raises:
        ToolTableError: the table cannot be used.
    """
    return None if settings.mcp_file is None else Toolbox(load(settings.mcp_file))


async def call(tool: Offered, arguments: str, left_s: float) -> str:
    """Call a tool with arguments as a model wrote them; return the text of its result.

    Args:
        tool: which.
        arguments: JSON.
        left_s: seconds until the question's deadline; the server's own limit may be shorter.

    Raises:
        ToolError: the arguments are no JSON object, or the tool failed, or took too long.
    """
    given = _parsed(tool, arguments)
    limit_s = max(0.001, min(left_s, tool.server.timeout_s))
    async with _connected(tool.server, limit_s, f"call {tool.name}") as client:
        result = await client.call_tool(tool.name, given)
    text = "\n".join(c.text for c in result.content if isinstance(c, mcp_types.TextContent))
    if result.is_error:
        raise ToolError(f"The tool {tool.name} of {tool.server.name} failed: {text}")
    if not text and result.structured_content is not None:
        return json.dumps(result.structured_content, ensure_ascii=False)
    return text


def _parsed(tool: Offered, arguments: str) -> dict[str, Any]:
    """Return the arguments; whether they fit its schema is for the server to say."""
    try:
        given = json.loads(arguments)
    except (ValueError, RecursionError) as error:
        raise ToolError(f"The arguments of {tool.name} are not JSON: {error}") from error
    if not isinstance(given, dict):
        raise ToolError(f"The arguments of {tool.name} are not a JSON object.")
    return given


async def _list(server: ToolServer) -> list[Offered]:
    async with _connected(server, server.timeout_s, "list its tools") as client:
        tools = (await client.list_tools()).tools
    return [
        Offered(server, tool.name, tool.description or "", dict(tool.input_schema))
        for tool in tools
        if tool.name in server.allow
    ]


@asynccontextmanager
async def _connected(server: ToolServer, limit_s: float, action: str) -> AsyncIterator[Client]:
    """Yield a client; all that goes wrong becomes a `ToolError`.

    Raises:
        ToolError: as it says.
    """
    try:
        async with asyncio.timeout(limit_s), Client(server.address) as client:
            yield client
    except TimeoutError as error:
        reason = f"nothing came within {limit_s:.3g} s"
        raise ToolError(f"The MCP server {server.name} did not {action}: {reason}") from error
    except (MCPError, OSError, ValueError, RuntimeError, ExceptionGroup) as error:
        reason = str(_first(error)) or type(error).__name__
        raise ToolError(f"The MCP server {server.name} did not {action}: {reason}") from error


def _first(error: Exception) -> BaseException:
    """Return what a group of errors is about: the SDK runs a connection in a group of tasks."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
