from __future__ import annotations

from typing import Any

import pytest

from llm_backend.engine import grammar

DEEP: dict[str, Any] = {}
for _ in range(2000):
    DEEP = {"items": DEEP}


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "strin"}, "strin"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"not": {"type": "string"}}, "not"),
        ({"properties": {"a": {}}, "minProperties": 2}, "maxProperties"),
        ({"oneOf": [{"type": "number"}, {"type": "integer"}]}, "oneOf"),
        ({"if": {"type": "string"}, "then": {"minLength": 2}}, "if"),
        ({"type": "array", "contains": {"type": "string"}}, "contains"),
        ({"type": "object", "propertyNames": {"minLength": 2}}, "propertyNames"),
        ({"type": "object", "dependentRequired": {"a": ["b"]}}, "dependentRequired"),
        ({"$ref": "https://example.com/other.json"}, "not fetch"),
        ({"$ref": "#/$defs/missing"}, "missing"),
        ({"type": "string", "pattern": "^(?=x)"}, "look-ahead"),
        ({"type": "string", "format": "unheard-of"}, "unheard-of"),
        ({"type": "integer", "minimum": 5, "maximum": 1}, "greater"),
        ({"x-guidance": {"lenient": True}}, "x-guidance"),
        (DEEP, "levels deep"),
        ({"enum": ["x" * 70_000]}, "65536"),
    ],
)
def test_what_cannot_be_enforced_is_named(schema: dict[str, Any], said: str) -> None:
    problem = grammar.problem_with_schema(schema, 65536)
    assert problem is not None
    assert said in problem
    assert "\n" not in problem


def test_a_schema_as_clients_send_them() -> None:
    point = {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Shape",
        "type": "object",
        "$defs": {"point": point},
        "properties": {
            "kind": {"enum": ["circle", "square"], "description": "which"},
            "points": {"type": "array", "items": {"$ref": "#/$defs/point"}, "maxItems": 3},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        },
        "required": ["kind", "points"],
        "additionalProperties": False,
    }
    assert grammar.problem_with_schema(schema, 65536) is None


def test_tool_calls_take_any_name_and_markers() -> None:
    calls = [('say "hi"', {"type": "object"}), ("b", {"$ref": "#/$defs/x", "$defs": {"x": {}}})]
    text = grammar.from_calls(calls, begin='<"call>', end="</call>", key="args", parallel=True)
    assert grammar.problem_with(text) is None


def test_a_hostile_schema_is_refused_or_compiled_but_never_runs_away() -> None:
    nested = {"type": "string", "pattern": "^((a{1,1000}){1,1000}){1,1000}(.*b.{90}){90}$"}
    many = {"anyOf": [{"properties": {f"p{i}": {"pattern": f"{i}.*"}}} for i in range(500)]}
    for schema in (nested, many, {"type": "array", "minItems": 10**12}):
        problem = grammar.problem_with_schema(schema, 65536)  # the test's time limit is the check
        assert problem is None or problem
