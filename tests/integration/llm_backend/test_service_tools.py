"""Tool calls as clients meet them. The fake ranks repeat the prompt, so it is the answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from tests.support.llm_service import ServiceProcess, running_service
from tests.support.tiny_model import TOOL_TEMPLATE, write_tiny_model

TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "w",
            "description": "Weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]
CALL = '<tool_call>\n{"name": "w", "arguments": {"city": "Köln"}}\n</tool_call>'


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    directory = tmp_path_factory.mktemp("service")
    model = write_tiny_model(directory / "tiny", TOOL_TEMPLATE)
    with running_service(directory / "log", LLM_MODEL=str(model)) as running:
        yield running


@pytest.fixture(scope="module")
def client(service: ServiceProcess) -> Iterator[openai.OpenAI]:
    with service.openai as client:
        yield client


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def test_calls_are_found_in_the_answer(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="tiny", messages=user(f"On it.\n{CALL}\n{CALL}"), tools=TOOLS
    )
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "w|On it."  # "w|" is how the template shows the tool
    calls = choice.message.tool_calls or []
    functions = [call.function for call in calls if call.type == "function"]
    assert [(f.name, json.loads(f.arguments)) for f in functions] == [("w", {"city": "Köln"})] * 2
    assert len({call.id for call in calls}) == 2


@pytest.mark.parametrize("choices", [1, 2])
def test_streamed_calls(client: openai.OpenAI, choices: int) -> None:
    stream = client.chat.completions.create(
        model="tiny", messages=user(f"On it.\n{CALL}"), tools=TOOLS, stream=True, n=choices
    )
    said, arguments, reasons = [""] * choices, [""] * choices, [""] * choices
    heads = []
    for chunk in stream:
        choice = chunk.choices[0]
        said[choice.index] += choice.delta.content or ""
        reasons[choice.index] = choice.finish_reason or reasons[choice.index]
        for call in choice.delta.tool_calls or []:
            assert call.index == 0
            assert call.function is not None
            arguments[choice.index] += call.function.arguments or ""
            if call.function.name:
                heads.append((choice.index, call.function.name, call.type, bool(call.id)))
    assert said == ["w|On it."] * choices
    assert arguments == ['{"city": "Köln"}'] * choices
    assert sorted(heads) == [(i, "w", "function", True) for i in range(choices)]
    assert reasons == ["tool_calls"] * choices


def test_a_call_cut_by_the_limit_says_so(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="tiny", messages=user(CALL), tools=TOOLS, max_tokens=50
    )
    choice = answer.choices[0]
    assert choice.finish_reason == "length"
    assert choice.message.tool_calls
    with pytest.raises(ValueError, match="char"):
        json.loads(choice.message.tool_calls[0].function.arguments)  # type: ignore[union-attr]


def test_none_shows_no_tools_and_reads_no_calls(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="tiny", messages=user(CALL), tools=TOOLS, tool_choice="none"
    )
    assert answer.choices[0].message.content == CALL
    assert not answer.choices[0].message.tool_calls
    assert answer.choices[0].finish_reason == "stop"


def test_a_result_goes_back_to_the_model(client: openai.OpenAI) -> None:
    first = client.chat.completions.create(model="tiny", messages=user(CALL), tools=TOOLS).choices[
        0
    ]
    assert first.message.tool_calls
    turns: list[Any] = [
        *user("Weather?"),
        first.message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": first.message.tool_calls[0].id, "content": "sunny"},
    ]
    answer = client.chat.completions.create(model="tiny", messages=turns)
    assert answer.choices[0].message.content == f"Weather?{CALL}w|sunny"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": {"type": "function", "function": {"name": "x"}}}, None),
        ({"tools": None, "tool_choice": "required"}, None),
        ({"functions": []}, "functions"),
        ({"tools": [{"type": "web_search"}]}, None),
        (
            {
                "tools": [
                    {"type": "function", "function": {"name": "a", "parameters": {"not": {}}}}
                ],
                "tool_choice": "required",
            },
            "tools[0].function.parameters",
        ),
    ],
)
def test_refusals(service: ServiceProcess, fields: dict[str, Any], param: str | None) -> None:
    body = {"model": "tiny", "messages": user("x"), "tools": TOOLS, **fields}
    response = service.post("/v1/chat/completions", body)
    error = response.json()["error"]
    assert response.status_code == 400, error
    assert param is None or error["param"] == param


def test_megabytes_of_text_do_not_hold_up_others(service: ServiceProcess) -> None:
    """Here, since this service takes bodies of the default size."""
    text = "1" * 3_000_000
    refused = service.post("/v1/completions", {"model": "tiny", "prompt": text})
    assert refused.json()["error"]["code"] == "context_length_exceeded"
    with ThreadPoolExecutor(1) as thread:
        counted = thread.submit(service.post, "/tokenize", {"model": "tiny", "prompt": text})
        answered = 0
        while not counted.done():
            httpx.get(f"{service.url}/healthz", timeout=60)
            answered += 1
    assert counted.result().json()["count"] == len(text)
    assert answered > 2  # a loop that is busy tokenising answers the first, and then no more
