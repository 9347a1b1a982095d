"""What an answer may look like, as a grammar of llguidance: from a JSON schema or from tools.

A grammar is a text, so it travels to rank 0 as it is. llguidance compiles lazily and counts fuel:
a hostile schema costs milliseconds, then an error, in the compiler as well as in a step.
Sources: https://github.com/guidance-ai/llguidance/blob/main/docs/json_schema.md and `syntax.md`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from llguidance import LLMatcher, LLParserLimits

Schema = Mapping[str, Any]

ANY_OBJECT: Schema = {"type": "object"}
MAX_DEPTH = 64
"""Deepest nesting of a schema: lists and objects within each other."""

LIMITS = LLParserLimits(verbose_errors=False)
"""llguidance's own; at most 12 ms of a step per sequence, measured on hostile patterns."""

_OPTIONS_KEY = "x-guidance"
_LAYOUT = {_OPTIONS_KEY: {"whitespace_pattern": r"\n?[ \t]{0,20}"}}
"""Indented or not, but never whitespace without end, into which small models fall."""


def from_schema(schema: Schema) -> str:
    """Return the grammar of the JSON texts that `schema` allows."""
    return str(LLMatcher.grammar_from_json_schema(json.dumps({**schema, **_LAYOUT})))


def from_calls(
    calls: Sequence[tuple[str, Schema]],
    *,
    begin: str,
    end: str,
    key: str,
    parallel: bool,
    optional: bool = False,
) -> str:
    """Return the grammar of an answer that consists of tool calls, at least one.

    Args:
        calls: name and argument schema of each tool that may be called.
        begin: what the model writes before a call's JSON object.
        end: what it writes after it.
        key: the object's key for the arguments; that of the name is "name".
        parallel: whether a second call may follow.
        optional: whether the answer may also be text, before calls or without any.
    """
    rules = _optional_calls(begin, parallel) if optional else _only_calls(begin, parallel)
    rules.append("body: " + " | ".join(f"body_{i}" for i in range(len(calls))))
    tail = _quoted(f"}}\n{end}")
    for i, (name, schema) in enumerate(calls):
        head = f'\n{{"name": {json.dumps(name)}, "{key}": '
        body = json.dumps({**schema, **_LAYOUT})
        rules.append(f"body_{i}: {_quoted(head)} %json {body} {tail}")
    return str(LLMatcher.grammar_from_lark("\n".join(rules)))


def _only_calls(begin: str, parallel: bool) -> list[str]:
    more = ' ("\\n" call)*' if parallel else ""
    return [f"start: call{more}", f"call: {_quoted(begin)} body"]


def _optional_calls(begin: str, parallel: bool) -> list[str]:
    """Return the rules of text in which the marker, once written, must be followed by a call."""
    return [
        f"start: call{'*' if parallel else '?'} rest",
        "rest: TEXT",
        "call: head body",
        f"head[lazy]: TEXT {_quoted(begin)}",
        r"TEXT: /(.|\n)*/",
    ]


def problem_with_schema(schema: Schema, max_bytes: int) -> str | None:
    """Return why `schema` cannot be enforced, or None. CPU-bound without the GIL; thread-safe."""
    if _OPTIONS_KEY in schema:
        return f"The key {_OPTIONS_KEY!r} is not supported"
    if _depth(schema) > MAX_DEPTH:
        return f"It is nested more than {MAX_DEPTH} levels deep"
    size = len(json.dumps(schema).encode())
    if size > max_bytes:
        return f"It has {size} bytes and {max_bytes} are allowed"
    return problem_with(from_schema(schema))


def problem_with(grammar: str) -> str | None:
    """Return what llguidance has against `grammar`, in one line, or None."""
    said: str = LLMatcher.validate_grammar(grammar, None, limits=LIMITS)
    return " ".join(said.split())[:300] or None


def _quoted(text: str) -> str:
    """Return `text` as a Lark string, which has JSON's escapes."""
    return json.dumps(text)


def _depth(value: Any) -> int:
    """Return how many lists and objects are within each other, without recursion."""
    deepest, level = 0, [value]
    while level := [each for each in level if isinstance(each, dict | list)]:
        deepest += 1
        level = [x for each in level for x in (each.values() if isinstance(each, dict) else each)]
    return deepest
