"""What a request's answer is held to: a JSON schema, or calls of its tools, as a grammar."""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from contracts.tools import Tool, ToolName
from llm_backend.api.types import ChatRequest, SamplingRequest
from llm_backend.engine import grammar
from llm_backend.errors import InvalidRequestError
from llm_backend.models.tool_format import ToolFormat

_REMEMBERED = 256


class Constraints:
    """Builds grammars, and sees in a thread of its own that they can be followed.

    The thread is one: however many hostile schemas come, the event loop and all cores but one are
    free for others.

    Args:
        max_bytes: largest schema, and largest sum of a request's tool schemas.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._sound: OrderedDict[str, None] = OrderedDict()
        self._thread = ThreadPoolExecutor(1, "constraints")

    async def of(self, wanted: SamplingRequest, form: ToolFormat | None) -> str:
        """Return the grammar of the answer; empty for any text.

        Raises:
            InvalidRequestError: a schema cannot be enforced; the message says why not.
        """
        if (schema := wanted.schema_wanted) is not None:
            await self._check_schema(schema, "response_format.json_schema.schema")
            found = grammar.from_schema(schema)
        elif isinstance(wanted, ChatRequest) and form is not None and wanted.offered_tools:
            found = await self._of_tools(wanted, wanted.offered_tools, form)
        else:
            return ""
        if found and (wanted.ignore_eos or wanted.min_tokens):
            name = "ignore_eos" if wanted.ignore_eos else "min_tokens"
            raise InvalidRequestError(
                f"{name} contradicts an answer whose end its form decides; leave it out.", name
            )
        return found

    async def _of_tools(self, wanted: ChatRequest, tools: Sequence[Tool], form: ToolFormat) -> str:
        free = wanted.tool_choice in (None, "auto")
        if free and not any(tool.function.strict for tool in tools):
            return ""
        callable_tools = [
            (i, tool.function)
            for i, tool in enumerate(tools)
            if not isinstance(wanted.tool_choice, ToolName)
            or tool.function.name == wanted.tool_choice.function.name
        ]
        calls: list[tuple[str, grammar.Schema]] = []
        for i, function in callable_tools:
            held = function.strict or not free
            if held:
                await self._check_schema(function.parameters, f"tools[{i}].function.parameters")
            calls.append((function.name, function.parameters if held else grammar.ANY_OBJECT))
        if sum(len(json.dumps(schema)) for _, schema in calls) > self._max_bytes:
            raise InvalidRequestError(
                f"The tools' schemas have more than {self._max_bytes} bytes together.", "tools"
            )
        text = grammar.from_calls(
            calls,
            begin=form.begin,
            end=form.end,
            key=form.key,
            parallel=wanted.parallel_tool_calls and not isinstance(wanted.tool_choice, ToolName),
            optional=free,
        )
        await self._check(text, partial(grammar.problem_with, text), "tools")
        return text

    async def _check_schema(self, schema: grammar.Schema, param: str) -> None:
        check = partial(grammar.problem_with_schema, schema, self._max_bytes)
        await self._check(repr(schema), check, param)

    async def _check(self, key: str, check: partial[str | None], param: str) -> None:
        if key not in self._sound:
            loop = asyncio.get_running_loop()
            problem = await loop.run_in_executor(self._thread, check)
            if problem is not None:
                raise InvalidRequestError(
                    f"Field {param!r} cannot be enforced: {problem.rstrip('.')}.", param
                )
        self._sound[key] = None
        self._sound.move_to_end(key)
        if len(self._sound) > _REMEMBERED:
            self._sound.popitem(last=False)
