"""How a model writes tool calls: what its chat template says of it."""

from __future__ import annotations

from dataclasses import dataclass

from jinja2 import Environment, meta


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """A call is a JSON object with "name" and `key`, each on a line between two markers.

    Attributes:
        begin: the marker before a call.
        end: the marker after it.
        key: the object's key for the arguments.
    """

    begin: str
    end: str
    key: str


HERMES = ToolFormat("<tool_call>", "</tool_call>", "arguments")
"""Hermes 2 Pro, Qwen 2.5 and 3, SmolLM3 and many others:
https://github.com/NousResearch/Hermes-Function-Calling#prompt-format-for-function-calling
"""


def takes_tools(source: str, environment: Environment) -> bool:
    """Return whether a chat template does anything with tools."""
    return "tools" in meta.find_undeclared_variables(environment.parse(source))


def find_format(source: str) -> ToolFormat | None:
    """Return how a chat template that takes tools shows calls; None for a way unknown here."""
    return HERMES if HERMES.begin in source and f'"{HERMES.key}"' in source else None
