"""An agent with the official MCP client, on the real gateway."""

from __future__ import annotations

from typing import Any

import httpx
from mcp import Client

from tests.integration.serve_app.conftest import MockProcess
from tests.support.serve import Gateway

QUESTION = "Which taint do the GPU node pools carry?"


async def call(served: Gateway, tool: str, **arguments: Any) -> tuple[dict[str, Any], list[str]]:
    """Return what `tool` answers, and the texts of its progress notifications."""
    said: list[str] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        said.append(message or "")

    async with Client(f"{served.url}/mcp") as client:
        result = await client.call_tool(tool, arguments, progress_callback=note)
    if result.is_error:
        return {"error": result.content[0].text}, said
    return result.structured_content, said


async def test_the_tools_are_listed(served: Gateway) -> None:
    async with Client(f"{served.url}/mcp") as client:
        tools = (await client.list_tools()).tools
    assert {t.name for t in tools} == {"ask", "search_documents", "list_collections", "generate"}
    assert all(tool.description for tool in tools)


async def test_an_agent_asks(served: Gateway, mock: MockProcess) -> None:
    with mock.running():
        answer, said = await call(served, "ask", question=QUESTION)
    assert "sku=gpu:NoSchedule" in answer["answer"]
    assert answer["citations"][0]["source"] == "pools.md"
    assert "".join(said) == answer["answer"]


async def test_an_agent_searches(served: Gateway) -> None:
    found, _ = await call(served, "search_documents", query="where are weights", top_k=1)
    assert "Azure Files" in found["passages"][0]["text"]
    listed, _ = await call(served, "list_collections")
    assert "default" in listed["collections"]


async def test_an_agent_generates(served: Gateway, mock: MockProcess) -> None:
    with mock.running():
        generated, said = await call(served, "generate", prompt="Say it.", max_tokens=3)
    assert generated["text"] == "".join(said) == "No passages were"


async def test_an_agent_is_told_what_went_wrong(served: Gateway) -> None:
    answer, _ = await call(served, "ask", question=QUESTION)
    assert "cannot be reached" in answer["error"]
    answer, _ = await call(served, "search_documents", query="x", collection="absent")
    assert "no collection 'absent'" in answer["error"]


def test_what_is_not_mcp_is_refused(served: Gateway) -> None:
    answer = httpx.post(f"{served.url}/mcp", json={"hello": 1}, timeout=10)
    assert 400 <= answer.status_code < 500
