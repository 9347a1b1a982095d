"""The agentic branch with tools of real MCP servers, and the mock LLM's faults."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts.mock_llm import Fault, MockLLM, MockSettings
from rag_graph.errors import LLMTimeoutError, ToolTableError
from rag_graph.graph import RagGraph
from rag_graph.llm.asgi_transport import StreamingASGITransport
from rag_graph.llm.client import LLMClient
from rag_graph.settings import RagSettings
from rag_graph.state import Answered, Event, Passage, Question, Retrieved, SearchQuery
from rag_graph.tools import load
from tests.support.processes import ROOT, free_port, wait_for
from tests.support.rag import passage

HOP = "What do the GPU pools cost per hour and which taint do they carry?"
FOUND = [passage("The GPU pools carry the taint sku=gpu:NoSchedule.", 1)]
STDIO = [sys.executable, "-m", "tests.support.mcp_tools"]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server on a socket."""
    port = free_port()
    with subprocess.Popen([*STDIO, str(port)], cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: _answers(port), 30, "the MCP server listens")
        yield f"http://127.0.0.1:{port}/mcp"
        process.kill()


def _answers(port: int) -> bool:
    try:
        return bool(httpx.get(f"http://127.0.0.1:{port}/mcp", timeout=1).status_code)
    except httpx.TransportError:
        return False


def table(folder: Path, *servers: str) -> Path:
    path = folder / "mcp.toml"
    path.write_text("\n".join(f"[[servers]]\n{server}" for server in servers))
    return path


def at(address: str, *allow: str, name: str = "house", timeout_s: float = 20) -> str:
    where = f'url = "{address}"' if "://" in address else f"command = {address}"
    return f'name = "{name}"\n{where}\nallow = {json.dumps(allow)}\ntimeout_s = {timeout_s}'


class House:
    """A graph with one passage, the mock LLM, and tools."""

    def __init__(self, mcp_file: Path, *, mock: dict[str, Any] | None = None, **more: Any) -> None:
        self.mock = MockLLM(MockSettings(**(mock or {})))
        client = LLMClient("http://mock", transport=StreamingASGITransport(self.mock))
        self.graph = RagGraph(self._search, client, RagSettings(mcp_file=mcp_file, **more))
        self.found = FOUND

    async def _search(self, _: SearchQuery) -> list[Passage]:
        return self.found

    async def events(self, text: str = HOP, **fields: Any) -> list[Event]:
        return [event async for event in self.graph.answer(Question(text, **fields))]

    async def ask(self, text: str = HOP, **fields: Any) -> Answered:
        last = (await self.events(text, **fields))[-1]
        assert isinstance(last, Answered)
        return last


@pytest.mark.parametrize("kind", ["http", "stdio"])
async def test_a_result_is_a_passage_that_can_be_cited(
    url: str, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    address = url if kind == "http" else json.dumps(STDIO)
    events = await House(table(tmp_path, at(address, "find_ticket"))).events()
    (retrieved,) = (event for event in events if isinstance(event, Retrieved))
    sources = {p.source for p in retrieved.passages}
    assert sources == {"docs/1.md", "mcp:house/find_ticket"}
    last = events[-1]
    assert isinstance(last, Answered)
    assert "12 euros" in last.text
    assert last.citations[0].source == "mcp:house/find_ticket"
    (used,) = last.metadata["tools"]
    assert (used["tool"], used["ok"], used["reason"]) == ("house__find_ticket", True, "")
    assert json.loads(used["arguments"]) == {"about": HOP}
    # decompose, choose, choose again, answer
    assert (last.metadata["llm_calls"], last.metadata["unaided"]) == (4, [])


async def test_a_question_of_one_hop_asks_no_tools(url: str, tmp_path: Path) -> None:
    last = await House(table(tmp_path, at(url, "find_ticket"))).ask("Which taint do they carry?")
    assert (last.metadata["tools"], last.metadata["llm_calls"]) == ([], 1)


async def test_what_a_tool_finds_is_enough_without_documents(url: str, tmp_path: Path) -> None:
    house = House(table(tmp_path, at(url, "find_ticket")))
    house.found = []
    last = await house.ask()
    assert not last.metadata["abstained"]
    assert "12 euros" in last.text


async def test_failures_of_tools_are_recorded_and_the_answer_goes_on(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    servers = table(
        tmp_path,
        at(url, "find_ticket", "broken_meter"),
        at(url, "slow_archive", name="slow", timeout_s=2),
        at(json.dumps(STDIO), "dying_oracle", name="dying"),
        at("http://127.0.0.1:9/mcp", "x", name="gone"),
        at('["no-such-program"]', "x", name="missing"),
    )
    last = await House(servers).ask()
    assert "12 euros" in last.text
    used = {call["tool"]: call for call in last.metadata["tools"]}
    assert {name for name, call in used.items() if call["ok"]} == {"house__find_ticket"}
    assert "the meter is broken" in used["house__broken_meter"]["reason"]
    assert "nothing came within 2 s" in used["slow__slow_archive"]["reason"]
    assert "did not call dying_oracle" in used["dying__dying_oracle"]["reason"]
    assert set(last.metadata["unaided"]) == {"tools:gone", "tools:missing"}


async def test_only_allowed_tools_are_offered(url: str, tmp_path: Path) -> None:
    house = House(table(tmp_path, at(url, "broken_meter", "no_such_tool")))
    last = await house.ask()
    assert [call["tool"] for call in last.metadata["tools"]] == ["house__broken_meter"]


async def test_steps_and_tokens_are_limited(url: str, tmp_path: Path) -> None:
    house = House(table(tmp_path, at(url, "find_ticket")), tool_steps=1)
    assert (await house.ask()).metadata["llm_calls"] == 3
    long = [passage("The GPU pools carry the taint. " * 60, 1)]
    spent = House(table(tmp_path, at(url, "find_ticket")), tool_tokens=256)
    spent.found = long
    assert (await spent.ask()).metadata["llm_calls"] == 3


@pytest.mark.parametrize("fault", [Fault.SERVER_ERROR, Fault.MALFORMED, Fault.RATE_LIMIT])
async def test_a_model_that_cannot_choose_is_done_without(
    url: str, tmp_path: Path, fault: Fault
) -> None:
    faults = {"fault": fault, "fault_requests": 2, "fault_after_tokens": 1, "retry_after_s": 30}
    last = await House(table(tmp_path, at(url, "find_ticket")), mock=faults).ask()
    assert "sku=gpu:NoSchedule" in last.text
    assert last.metadata["unaided"] == ["decompose", "consult"]
    assert last.metadata["tools"] == []


async def test_the_deadline_ends_a_slow_tool(url: str, tmp_path: Path) -> None:
    house = House(table(tmp_path, at(url, "slow_archive")))
    begun = asyncio.get_running_loop().time()
    with pytest.raises(LLMTimeoutError):
        await house.ask(timeout_s=2)
    assert asyncio.get_running_loop().time() - begun < 6


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "servers"),
        ('[[servers]]\nname = "a"\nallow = ["x"]', "either a url or a command"),
        ('[[servers]]\nname = "a"\nurl = "http://x"\nallow = []', "allow"),
        ("nonsense", "not TOML"),
    ],
)
def test_a_table_that_cannot_be_used_is_said_at_the_start(
    tmp_path: Path, text: str, reason: str
) -> None:
    path = tmp_path / "mcp.toml"
    path.write_text(text)
    with pytest.raises(ToolTableError, match=reason):
        load(path)
    with pytest.raises(ToolTableError, match="cannot be read"):
        load(tmp_path / "missing.toml")
