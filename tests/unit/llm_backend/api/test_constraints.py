from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import ValidationError

from llm_backend.api.constraints import Constraints
from llm_backend.api.types import ChatRequest, TextRequest
from llm_backend.engine import grammar
from llm_backend.errors import InvalidRequestError
from llm_backend.models.tool_format import HERMES

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY}}


def tool(name: str, parameters: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    function = {"name": name, "parameters": CITY if parameters is None else parameters, **more}
    return {"type": "function", "function": function}


def chat(**fields: Any) -> ChatRequest:
    messages = [{"role": "user", "content": "a"}]
    return ChatRequest.model_validate({"model": "m", "messages": messages, **fields})


def found(wanted: ChatRequest | TextRequest) -> str:
    return asyncio.run(Constraints(4096).of(wanted, HERMES))


def test_no_constraint() -> None:
    assert found(chat()) == ""
    assert found(chat(response_format={"type": "text"})) == ""
    assert found(chat(tools=[tool("a")])) == ""
    assert found(chat(tools=[tool("a")], tool_choice="none")) == ""


def test_formats() -> None:
    assert found(chat(response_format=SCHEMA)) == grammar.from_schema(CITY)
    wanted = TextRequest(model="m", prompt="a", response_format={"type": "json_object"})
    assert found(wanted) == grammar.from_schema(grammar.ANY_OBJECT)


def test_tools_that_must_be_called() -> None:
    tools = [tool("one"), tool("two")]
    both = found(chat(tools=tools, tool_choice="required"))
    assert "one" in both
    assert "two" in both
    choice = {"type": "function", "function": {"name": "two"}}
    named = found(chat(tools=tools, tool_choice=choice))
    assert "one" not in named
    assert named != both
    alone = found(chat(tools=tools, tool_choice="required", parallel_tool_calls=False))
    assert alone != both


def test_a_strict_tool_is_held_to_its_schema_only_where_it_is_called() -> None:
    optional = found(chat(tools=[tool("one", strict=True), tool("two", {"not": {}})]))
    assert "lazy" in optional


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        (
            {"response_format": {**SCHEMA, "json_schema": {"name": "x", "schema": {"not": {}}}}},
            "response_format.json_schema.schema",
            "not",
        ),
        (
            {"tools": [tool("a"), tool("b", {"type": "strin"})], "tool_choice": "required"},
            "tools[1].function.parameters",
            "strin",
        ),
        (
            {"tools": [tool(f"f{i}") for i in range(60)], "tool_choice": "required"},
            "tools",
            "4096",
        ),
        ({"response_format": SCHEMA, "ignore_eos": True}, "ignore_eos", "contradicts"),
        ({"response_format": SCHEMA, "min_tokens": 3}, "min_tokens", "contradicts"),
    ],
)
def test_what_cannot_be_held_is_named(fields: dict[str, Any], param: str, said: str) -> None:
    with pytest.raises(InvalidRequestError, match=said) as caught:
        found(chat(**fields))
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"tools": []}, "tools"),
        ({"tools": [tool("a"), tool("a")]}, "same name"),
        ({"tools": [tool("a b")]}, "name"),
        ({"tool_choice": "auto"}, "needs tools"),
        (
            {"tools": [tool("a")], "tool_choice": {"type": "function", "function": {"name": "b"}}},
            "no function",
        ),
        ({"tools": [tool("a")], "response_format": SCHEMA}, "exclude"),
        ({"response_format": {"type": "json_schema"}}, "needs json_schema"),
        ({"response_format": {**SCHEMA, "type": "json_object"}}, "no other type"),
        ({"response_format": {"type": "xml"}}, "type"),
        ({"messages": [{"role": "tool", "content": "1"}]}, "tool_call_id"),
        ({"messages": [{"role": "user", "content": "1", "tool_call_id": "1"}]}, "no other"),
        ({"messages": [{"role": "assistant"}]}, "content is missing"),
        ({"messages": [{"role": "user", "content": None}]}, "content is missing"),
    ],
)
def test_requests_that_make_no_sense(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        chat(**fields)


def test_earlier_calls_need_arguments_that_are_an_object() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "a", "arguments": "[1]"}}
    turn = {"role": "assistant", "content": None, "tool_calls": [call]}
    with pytest.raises(ValidationError, match="not a JSON object"):
        chat(messages=[turn])
    call["function"] = {"name": "a", "arguments": '{"x": 1}'}
    assert chat(messages=[turn]).messages[0].for_template() == {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "a", "arguments": {"x": 1}}}
        ],
    }
