"""The MCP tools over fakes: what an agent learns of an answer that is not as it should be."""

from __future__ import annotations

from typing import Any

import pytest
from mcp import Client
from mcp.types import CallToolResult

from rag_graph.errors import LLMUnavailableError, StoreError
from serve_app.auth import Keys
from serve_app.routes.mcp import server
from serve_app.services import Services
from serve_app.settings import ServeSettings
from tests.unit.serve_app.conftest import PASSAGE, Fakes

DOWN = LLMUnavailableError("The LLM is down.", "overloaded", None, 7.0)


async def ask(fakes: Fakes, **settings: Any) -> CallToolResult:
    """Return what the tool answers over `fakes`."""
    made = fakes.services(Keys(()))
    services = Services(**{**vars(made), "serve": ServeSettings(**settings)})
    async with Client(server(services)) as client:
        result = await client.call_tool("ask", {"question": "Which taint?"})
    await made.opinions.aclose()
    await fakes.memory.aclose()
    return result


def structured(result: CallToolResult) -> dict[str, Any]:
    told = result.structured_content
    assert isinstance(told, dict)
    return told


async def test_an_answer_tells_how_it_came_about() -> None:
    result = await ask(Fakes())
    assert not result.is_error
    assert structured(result)["answer"] == "The taint is sku=gpu. [1]"
    assert structured(result)["citations"][0]["source"] == PASSAGE.source
    assert structured(result)["isthmus"] == {"llm_model": "tiny", "passages": 1}


@pytest.mark.parametrize(
    ("fakes", "settings", "grounded"),
    [
        (Fakes(fails_after=0, failure=DOWN), {"on_llm_failure": "passages"}, True),
        (Fakes(search_failure=StoreError("No store.")), {"on_retrieval_failure": "answer"}, False),
    ],
)
async def test_a_degraded_answer_is_marked(
    fakes: Fakes, settings: dict[str, str], *, grounded: bool
) -> None:
    result = await ask(fakes, **settings)
    info = structured(result)["isthmus"]
    assert (info["degraded"], info["grounded"]) == (True, grounded)
    assert '"degraded": true' in result.content[0].text


async def test_without_a_model_the_error_has_the_passages() -> None:
    result = await ask(Fakes(fails_after=0, failure=DOWN))
    assert result.is_error
    told = structured(result)
    assert told["error"]["code"] == "overloaded"
    assert "The LLM is down." in told["error"]["message"]
    assert (told["degraded"], told["retry_after"]) == (True, 7)
    assert told["passages"][0]["text"] == PASSAGE.text
    assert PASSAGE.text in result.content[0].text


async def test_another_error_is_a_sentence() -> None:
    result = await ask(Fakes(search_failure=StoreError("No store.")))
    assert result.is_error
    assert "No store." in result.content[0].text
