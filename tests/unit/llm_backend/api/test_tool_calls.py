from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_backend.api.tool_calls import ToolCallReader
from llm_backend.models.tool_format import HERMES

WEATHER = '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln \\"}{\\\\"}}\n</tool_call>'
TIME = '<tool_call>\n{"name": "time", "arguments": {}}\n</tool_call>'
SWAPPED = '<tool_call>{"arguments": {"a": [1, {"b": 2}]}, "name": "time"}</tool_call>'
UNKNOWN = '<tool_call>{"name": "rm", "arguments": {}}</tool_call>'
BROKEN = "<tool_call>{name: time}</tool_call>"


def read(*pieces: str) -> tuple[str, list[tuple[str, str]]]:
    """Return what is said and what is called, put together from the parts of a stream."""
    reader = ToolCallReader(HERMES, {"weather", "time"})
    said = ""
    names: dict[int, str] = {}
    ids: dict[int, str] = {}
    arguments: dict[int, str] = {}
    for text, calls in [*map(reader.push, pieces), reader.flush()]:
        said += text
        for call in calls:
            delta: dict[str, Any] = call.to_wire(streamed=True)
            if call.index not in ids:
                names[call.index], ids[call.index] = delta["function"]["name"], delta["id"]
            else:
                assert set(delta) == {"index", "function"}
            parts = arguments.setdefault(call.index, "")
            arguments[call.index] = parts + delta["function"]["arguments"]
    for call in reader.calls:
        whole = call.to_wire(streamed=False)
        assert whole["id"] == ids[call.index]
        assert whole["function"] == {
            "name": names[call.index],
            "arguments": arguments[call.index],
        }
    return said, [(names[i], arguments[i]) for i in sorted(names)]


@pytest.mark.parametrize(
    ("text", "said", "called"),
    [
        ("Hello.\n", "Hello.\n", []),
        (WEATHER, "", [("weather", '{"city": "Köln \\"}{\\\\"}')]),
        (f"One moment.\n{WEATHER}\n{TIME}\n", "One moment.", ["weather", "time"]),
        (SWAPPED, "", [("time", '{"a": [1, {"b": 2}]}')]),
        (f"So:\n{UNKNOWN}", f"So:\n{UNKNOWN}", []),
        (BROKEN + TIME, BROKEN, [("time", "{}")]),
        ("a < b <tool", "a < b <tool", []),
        ("x <tool_call>\n{", "x <tool_call>\n{", []),
        (WEATHER[: WEATHER.index("ö")], "", [("weather", '{"city": "K')]),
        (TIME + " and so on", " and so on", [("time", "{}")]),
    ],
)
def test_what_is_said_and_what_is_called(text: str, said: str, called: list[Any]) -> None:
    found_said, found_called = read(text)
    assert found_said == said
    assert len(found_called) == len(called)
    for found, wanted in zip(found_called, called, strict=True):
        assert wanted in (found, found[0])


@given(
    parts=st.lists(
        st.sampled_from(
            [WEATHER, TIME, SWAPPED, UNKNOWN, BROKEN, "\n", " ", "text", "<tool_", "{"]
        ),
        max_size=6,
    ),
    cuts=st.lists(st.integers(0, 400), max_size=30),
)
def test_it_never_matters_how_the_text_is_cut(parts: list[str], cuts: list[int]) -> None:
    text = "".join(parts)
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(edges)]
    said, called = read(*pieces)
    assert (said, called) == read(text)
    assert (said, called) == read(*text)
    for _, arguments in called:
        json.loads(arguments)


def test_arguments_come_as_they_are_written() -> None:
    reader = ToolCallReader(HERMES, {"time"})
    assert reader.push('<tool_call>\n{"name": "time", "arguments": {"zone"')[1]
    [(_, [more])] = [reader.push(': "UTC"')]
    assert (more.name, more.arguments) == ("", ': "UTC"')
