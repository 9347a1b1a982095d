"""values.yaml explains every value, and the schema knows exactly the values that there are."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from tests.support import chart

VALUES = chart.CHART / "values.yaml"
FREE = {"serve.settings", "llm.settings", "llm.nccl", "ingress.annotations"}
"""Maps whose keys are the user's."""


EXPLAINED_ABOVE = ("isolation.taint", "llm.nccl", "nodePools")
"""Blocks that the comment on their first line explains as a whole."""


def test_every_value_is_explained_on_its_line() -> None:
    stack: list[tuple[int, str]] = []
    for line in VALUES.read_text().splitlines():
        body = line.strip().removeprefix("- ")
        if not body or body.startswith("#"):
            continue
        indent = len(line) - len(line.lstrip("- "))
        stack = [(i, key) for i, key in stack if i < indent]
        stack.append((indent, body.partition(":")[0]))
        path = ".".join(key for _, key in stack)
        opens_a_block = re.search(r":(\s+#.*)?$", body)
        assert " # " in line or opens_a_block or path.startswith(EXPLAINED_ABOVE), path


def walk(values: Any, schema: dict[str, Any], path: str = "") -> list[str]:
    """Return paths where values and schema differ."""
    if path in FREE or not isinstance(values, dict):
        return []
    known = set(schema["properties"]) - ({"global"} if not path else set())
    found = [f"{path}.{k}" for k in known ^ set(values)]
    if schema.get("additionalProperties") is not False:
        found.append(f"{path} is open")
    for key in known & set(values):
        found += walk(values[key], schema["properties"][key], f"{path}.{key}".lstrip("."))
    return found


def test_the_schema_is_closed_and_complete() -> None:
    schema = json.loads((chart.CHART / "values.schema.json").read_text())
    assert walk(yaml.safe_load(VALUES.read_text()), schema) == []


def open_objects(schema: Any, path: str) -> list[str]:
    """Return every object in the schema, also inside lists, that takes unknown names."""
    if isinstance(schema, list):
        return [p for item in schema for p in open_objects(item, path)]
    if not isinstance(schema, dict):
        return []
    is_open = schema.get("type") == "object" and schema.get("additionalProperties") is not False
    found = [path] if is_open and path not in FREE else []
    inner = {f"{path}.{k}".lstrip("."): v for k, v in schema.get("properties", {}).items()}
    inner |= {f"{path}[]": schema[key] for key in ("items", "oneOf", "anyOf") if key in schema}
    return found + [p for where, what in inner.items() for p in open_objects(what, where)]


def test_objects_inside_lists_are_closed_too() -> None:
    schema = json.loads((chart.CHART / "values.schema.json").read_text())
    users = {"nodePools[].labels", "nodePools[].capacity", "global"}  # `global`: Helm's, kept empty
    assert set(open_objects(schema, "")) == users


@pytest.mark.parametrize("name", ["dev", "prod", "spot"])
def test_the_examples_say_nothing_twice(name: str) -> None:
    """A worked example holds only what differs from the defaults."""
    base = yaml.safe_load(VALUES.read_text())
    example = yaml.safe_load((chart.CHART / f"values-{name}.yaml").read_text())
    assert list(_same(example, base)) == []


def _same(example: Any, base: Any, path: str = "") -> list[str]:
    if isinstance(example, dict) and isinstance(base, dict):
        return [p for k, v in example.items() for p in _same(v, base.get(k), f"{path}.{k}")]
    return [path] if example == base else []
