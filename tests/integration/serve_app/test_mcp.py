"""An agent with the official MCP client, on the real gateway."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any, TypeAlias

import httpx
import pytest
from mcp import Client, StdioServerParameters

from tests.integration.serve_app.conftest import MockProcess
from tests.support.processes import free_port
from tests.support.serve import Gateway

Server: TypeAlias = str | StdioServerParameters
QUESTION = "Which taint do the GPU node pools carry?"


@pytest.fixture(params=["http", "stdio"])
def reached(request: pytest.FixtureRequest, served: Gateway) -> Server:
    """The server as an agent reaches it: at /mcp, or through `isthmus mcp`."""
    if request.param == "http":
        return f"{served.url}/mcp"
    environment = {**os.environ, "ISTHMUS_URL": served.url}
    return StdioServerParameters(
        command=sys.executable, args=["-m", "cli.main", "mcp"], env=environment
    )


async def call(server: Server, tool: str, **arguments: Any) -> tuple[dict[str, Any], list[str]]:
    """Return what `tool` answers, and the texts of its progress notifications."""
    said: list[str] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        said.append(message or "")

    async with Client(server) as client:
        result = await client.call_tool(tool, arguments, progress_callback=note)
    if result.is_error:
        return {"error": result.content[0].text}, said
    return result.structured_content, said


async def test_the_tools_are_listed(reached: Server) -> None:
    async with Client(reached) as client:
        tools = (await client.list_tools()).tools
    assert {t.name for t in tools} == {"ask", "search_documents", "list_collections", "generate"}
    assert all(tool.description for tool in tools)


async def test_an_agent_asks(reached: Server, mock: MockProcess) -> None:
    with mock.running():
        answer, said = await call(reached, "ask", question=QUESTION)
    assert "sku=gpu:NoSchedule" in answer["answer"]
    assert answer["citations"][0]["source"] == "pools.md"
    assert "".join(said) == answer["answer"]


async def test_an_agent_searches(reached: Server) -> None:
    found, _ = await call(reached, "search_documents", query="where are weights", top_k=1)
    assert "Azure Files" in found["passages"][0]["text"]
    listed, _ = await call(reached, "list_collections")
    assert "default" in listed["collections"]


async def test_an_agent_generates(reached: Server, mock: MockProcess) -> None:
    with mock.running():
        generated, said = await call(reached, "generate", prompt="Say it.", max_tokens=3)
    assert generated["text"] == "".join(said) == "No passages were"


async def test_an_agent_is_told_what_went_wrong(reached: Server) -> None:
    answer, _ = await call(reached, "ask", question=QUESTION)
    assert "cannot be reached" in answer["error"]
    answer, _ = await call(reached, "search_documents", query="x", collection="absent")
    assert "no collection 'absent'" in answer["error"]


def test_what_is_not_mcp_is_refused(served: Gateway) -> None:
    answer = httpx.post(f"{served.url}/mcp", json={"hello": 1}, timeout=10)
    assert 400 <= answer.status_code < 500


def test_without_a_gateway_the_command_says_so() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "mcp"],
        env={**os.environ, "ISTHMUS_URL": f"http://127.0.0.1:{free_port()}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "There is no gateway at" in done.stderr
    assert done.stdout == ""
