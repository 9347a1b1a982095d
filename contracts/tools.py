"""Tools on the wire: what a request offers, chooses and remembers of earlier calls.

Source: https://platform.openai.com/docs/api-reference/chat/create#chat_create-tools
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from contracts.openai import ChatCompletionRequest, ChatMessage, TextPart

MAX_TOOLS = 128

Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Function(_Part):
    """One function that the model may call."""

    name: Name
    description: str | None = None
    parameters: dict[str, Any] = Field(default_factory=lambda: {"type": "object"})
    """JSON schema of the arguments, an object's."""
    strict: bool | None = None
    """Hold a call that the model makes of its own accord to `parameters` as well."""


class Tool(_Part):
    """An entry of `tools`."""

    type: Literal["function"]
    function: Function


class FunctionName(_Part):
    """The function of a `ToolName`."""

    name: Name


class ToolName(_Part):
    """`tool_choice` of one tool."""

    type: Literal["function"]
    function: FunctionName


class CalledFunction(_Part):
    """What an earlier answer called."""

    name: Name
    arguments: str
    """A JSON object, as text."""

    @model_validator(mode="after")
    def _check_arguments(self) -> Self:
        if not isinstance(_parsed(self.arguments), dict):
            raise ValueError("arguments is not a JSON object")  # noqa: TRY004  (pydantic's way)
        return self


class ToolCall(_Part):
    """One call of an earlier answer."""

    id: Annotated[str, Field(min_length=1, max_length=256)]
    type: Literal["function"]
    function: CalledFunction

    def for_template(self) -> dict[str, Any]:
        """Return the call as chat templates know it: arguments are an object, not text."""
        function = {
            "name": self.function.name,
            "arguments": json.loads(self.function.arguments),
        }
        return {"id": self.id, "type": "function", "function": function}


class Message(ChatMessage):
    """One turn of a conversation, tool calls and their results included."""

    role: Literal["system", "developer", "user", "assistant", "tool"]  # type: ignore[assignment]
    content: str | list[TextPart] | None = None  # type: ignore[assignment]
    tool_calls: Annotated[list[ToolCall] | None, Field(min_length=1, max_length=MAX_TOOLS)] = None
    """Only of an assistant."""
    tool_call_id: Annotated[str | None, Field(min_length=1, max_length=256)] = None
    """Only of a tool: whose result this is."""

    @model_validator(mode="after")
    def _check_role(self) -> Self:
        if self.tool_calls is not None and self.role != "assistant":
            raise ValueError("only an assistant's message has tool_calls")
        if (self.tool_call_id is not None) != (self.role == "tool"):
            raise ValueError("a tool's message needs a tool_call_id, and no other has one")
        if self.content is None and self.tool_calls is None:
            raise ValueError("content is missing")
        return self

    @property
    def text(self) -> str:
        return "" if self.content is None else super().text

    @property
    def about_tools(self) -> bool:
        """Whether only a template that knows tools can show this turn."""
        return self.tool_calls is not None or self.role == "tool"

    def for_template(self) -> dict[str, Any]:
        """Return the turn as chat templates know it: `developer` is today's `system`."""
        role = "system" if self.role == "developer" else self.role
        turn: dict[str, Any] = {"role": role, "content": self.text}
        if self.tool_calls is not None:
            turn["tool_calls"] = [call.for_template() for call in self.tool_calls]
        if self.tool_call_id is not None:
            turn["tool_call_id"] = self.tool_call_id
        return turn


class ToolRequest(ChatCompletionRequest):
    """A chat completion that offers tools."""

    messages: Annotated[list[Message], Field(min_length=1)]  # type: ignore[assignment]
    tools: Annotated[list[Tool] | None, Field(min_length=1, max_length=MAX_TOOLS)] = None


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
