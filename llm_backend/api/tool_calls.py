"""Reads tool calls out of an answer while it comes."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Literal

from llm_backend.models.tool_format import ToolFormat


@dataclass(slots=True)
class Call:
    """One tool call: whole, or what a moment added to it.

    Attributes:
        index: its place among the answer's calls.
        name: of the function; empty in all parts but the first.
        arguments: JSON text, as the model wrote it.
    """

    index: int
    name: str
    arguments: str = ""
    id: str = field(default_factory=lambda: f"call_{uuid.uuid4().hex}")

    def to_wire(self, *, streamed: bool) -> dict[str, Any]:
        """Return the call as an answer carries it, or one chunk of a stream."""
        place = {"index": self.index} if streamed else {}
        if not self.name:
            return {**place, "function": {"arguments": self.arguments}}
        function = {"name": self.name, "arguments": self.arguments}
        return {**place, "id": self.id, "type": "function", "function": function}


class ToolCallReader:
    """Splits an answer's text into what is said and what is called.

    A call's name is given out as soon as it is known, its arguments as they come. What looks like
    a call but is none, by its form or its name, remains text.

    Args:
        form: how the model writes calls.
        names: of the tools that the request offers.
    """

    def __init__(self, form: ToolFormat, names: Collection[str]) -> None:
        self._form = form
        self._names = names
        key = re.escape(form.key)
        self._head = re.compile(
            rf'\s*\{{\s*"name"\s*:\s*"([^"\\]*)"\s*,\s*"{key}"\s*:\s*(?=\{{)', re.DOTALL
        )
        self._state: Literal["text", "head", "arguments", "tail"] = "text"
        self._rest = ""
        self._begun = ""  # a marker and the space before it: text if no call follows
        self._object = _ObjectEnd()
        self._said: list[str] = []
        self._new: list[Call] = []
        self.calls: list[Call] = []
        """All calls so far, as complete as they are."""

    def push(self, text: str) -> tuple[str, list[Call]]:
        """Return what `text` adds to what is said, and to the calls."""
        self._rest += text
        while self._advance():
            pass
        return self._given()

    def flush(self) -> tuple[str, list[Call]]:
        """Return what was held back, at the answer's end; an unfinished call stays unfinished."""
        rest, self._rest = self._rest, ""
        if self._state == "text" and not (self.calls and rest.isspace()):
            self._said.append(rest)
        elif self._state == "head":
            self._said.append(self._begun + rest)
        return self._given()

    def _given(self) -> tuple[str, list[Call]]:
        given = "".join(self._said), self._new
        self._said, self._new = [], []
        return given

    def _advance(self) -> bool:
        """Take one state's share of the rest; return whether another state may go on."""
        match self._state:
            case "text":
                return self._read_text()
            case "head":
                return self._read_head()
            case "arguments":
                return self._read_arguments()
            case "tail":
                return self._read_tail()

    def _read_text(self) -> bool:
        before, marker, after = self._rest.partition(self._form.begin)
        if marker:
            self._said.append(before.rstrip())
            self._begun = before[len(before.rstrip()) :] + marker
            self._rest, self._state = after, "head"
            return True
        keep = _held_back(before, self._form.begin)
        self._said.append(before[: len(before) - keep])
        self._rest = before[len(before) - keep :]
        return False

    def _read_head(self) -> bool:
        found = self._head.match(self._rest)
        if found and found[1] in self._names:
            self._begin(found[1])
            self._rest, self._state = self._rest[found.end() :], "arguments"
            self._object = _ObjectEnd()
            return True
        body, marker, after = self._rest.partition(self._form.end)
        if not marker:
            return False
        self._take_whole(body)
        self._rest, self._state = after, "text"
        return True

    def _take_whole(self, body: str) -> None:
        """Take a call whose object is not laid out as expected, or give it back as text."""
        try:
            call = json.loads(body)
            name, arguments = call["name"], call[self._form.key]
        except (ValueError, KeyError, TypeError, RecursionError):
            name, arguments = None, None
        if isinstance(arguments, dict) and name in self._names:
            self._begin(name)
            self._add(json.dumps(arguments, ensure_ascii=False))
        else:
            self._said.append(self._begun + body + self._form.end)

    def _read_arguments(self) -> bool:
        end = self._object.find(self._rest)
        self._add(self._rest[:end])
        self._rest = self._rest[end:] if end is not None else ""
        if end is not None:
            self._state = "tail"
        return end is not None

    def _read_tail(self) -> bool:
        _, marker, after = self._rest.partition(self._form.end)
        if marker:
            self._rest, self._state = after, "text"
        return bool(marker)

    def _begin(self, name: str) -> None:
        self.calls.append(Call(len(self.calls), name))
        self._new.append(Call(self.calls[-1].index, name, id=self.calls[-1].id))

    def _add(self, arguments: str) -> None:
        call = self.calls[-1]
        call.arguments += arguments
        if self._new and self._new[-1].index == call.index:
            self._new[-1].arguments += arguments
        elif arguments:
            self._new.append(Call(call.index, "", arguments, call.id))


class _ObjectEnd:
    """Finds where a JSON object ends that comes in pieces."""

    _MARKS = re.compile(r'["\\{}]')

    def __init__(self) -> None:
        self._depth = 0
        self._quoted = False
        self._escaped_at = -1
        self._seen = 0

    def find(self, text: str) -> int | None:
        """Return the position after the object's last brace in this piece, or None."""
        for mark in self._MARKS.finditer(text):
            position = self._seen + mark.start()
            if position != self._escaped_at and self._closes(mark[0], position):
                return mark.end()
        self._seen += len(text)
        return None

    def _closes(self, mark: str, position: int) -> bool:
        if mark == '"':
            self._quoted = not self._quoted
        elif self._quoted:
            self._escaped_at = position + 1 if mark == "\\" else self._escaped_at
        elif mark in "{}":
            self._depth += 1 if mark == "{" else -1
            return self._depth == 0
        return False


def _held_back(text: str, marker: str) -> int:
    """Return how much of the end of `text` waits for what follows.

    That is the space before a call, which is no part of what is said, and what may be the
    beginning of a marker.
    """
    overlap = next((n for n in range(len(marker) - 1, 0, -1) if text.endswith(marker[:n])), 0)
    before = text[: len(text) - overlap]
    return overlap + len(before) - len(before.rstrip())
