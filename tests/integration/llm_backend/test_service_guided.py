"""Answers held to a form by the real engine: SmolLM2 with a chat template that knows tools."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import openai
import pytest

from llm_backend.models import store
from llm_backend.settings import LlmSettings
from tests.support.llm_service import ServiceProcess, running_service

TEMPLATE = """
{%- if tools %}
    {{- '<|im_start|>system\\nYou may call these functions:\\n<tools>' }}
    {%- for tool in tools %}{{- '\\n' ~ (tool | tojson) }}{% endfor %}
    {{- '\\n</tools>\\nAnswer with <tool_call>\\n' }}
    {{- '{"name": NAME, "arguments": OBJECT}\\n</tool_call>' }}
    {{- '<|im_end|>\\n' }}
{%- endif %}
{%- for m in messages %}
    {{- '<|im_start|>' ~ m.role ~ '\\n' ~ m.content ~ '<|im_end|>\\n' }}
{%- endfor %}
{{- '<|im_start|>assistant\\n' }}"""

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "pets": {"type": "array", "items": {"enum": ["cat", "dog"]}, "maxItems": 2},
    },
    "required": ["name", "age", "pets"],
    "additionalProperties": False,
}
FORMAT: Any = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS: Any = [
    {"type": "function", "function": {"name": "weather", "parameters": CITY, "strict": True}},
    {"type": "function", "function": {"name": "local-time", "parameters": CITY}},
]
ASKED: Any = [{"role": "user", "content": "Anna is 31 and has a cat. Answer in JSON."}]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    directory = tmp_path_factory.mktemp("service")
    model = directory / "smol"
    model.mkdir()
    for file in store.resolve(LlmSettings()).iterdir():
        if file.name != "chat_template.jinja":
            (model / file.name).symlink_to(file)
    (model / "chat_template.jinja").write_text(TEMPLATE)
    with running_service(directory / "log", worker=None, seconds=240, LLM_MODEL=str(model)) as it:
        yield it


@pytest.fixture(scope="module")
def client(service: ServiceProcess) -> Iterator[openai.OpenAI]:
    with service.openai as client:
        yield client


@pytest.mark.parametrize("temperature", [0.0, 2.0])
def test_json_schema(client: openai.OpenAI, temperature: float) -> None:
    answer = client.chat.completions.create(
        model="smol",
        messages=ASKED,
        response_format=FORMAT,
        temperature=temperature,
        seed=1,
        n=3,
        max_tokens=200,
    )
    assert len(answer.choices) == 3
    for choice in answer.choices:
        assert choice.finish_reason == "stop"
        jsonschema.validate(json.loads(choice.message.content or ""), PERSON)


def test_streamed(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="smol", messages=ASKED, response_format=FORMAT, temperature=0, stream=True
        )
    )
    jsonschema.validate(
        json.loads("".join(c.choices[0].delta.content or "" for c in chunks)), PERSON
    )
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_what_cuts_an_answer_is_told(service: ServiceProcess) -> None:
    body = {"model": "smol", "prompt": "x", "response_format": FORMAT, "temperature": 0}
    short = service.post("/v1/completions", {**body, "max_tokens": 3}).json()["choices"][0]
    assert short["finish_reason"] == "length"
    assert short["text"].startswith("{")
    cut = service.post("/v1/completions", {**body, "stop": '"age"'}).json()["choices"][0]
    assert cut["finish_reason"] == "stop"
    assert "age" not in cut["text"]


def test_json_object(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="smol",
        messages=ASKED,
        response_format={"type": "json_object"},
        max_tokens=150,
        seed=4,
    )
    [choice] = answer.choices
    assert (choice.message.content or "").startswith("{")
    if choice.finish_reason == "stop":
        assert isinstance(json.loads(choice.message.content or ""), dict)


def test_a_schema_that_cannot_be_enforced(service: ServiceProcess) -> None:
    wrong = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"not": {}}}}
    body = {"model": "smol", "messages": ASKED, "response_format": wrong}
    response = service.post("/v1/chat/completions", body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "response_format.json_schema.schema"


@pytest.mark.parametrize("stream", [False, True])
def test_required_tools(client: openai.OpenAI, stream: bool) -> None:
    with client.chat.completions.stream(
        model="smol",
        messages=ASKED,
        tools=TOOLS,
        tool_choice="required",
        parallel_tool_calls=not stream,
        temperature=1.5,
        seed=2,
        max_tokens=400,
    ) as events:
        choice = events.get_final_completion().choices[0]
    calls = choice.message.tool_calls or []
    assert calls
    if stream:
        assert len(calls) == 1
    if choice.finish_reason == "tool_calls":
        for call in calls:
            assert call.function.name in ("weather", "local-time")
            jsonschema.validate(json.loads(call.function.arguments), CITY)


def test_a_named_tool(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="smol",
        messages=ASKED,
        tools=TOOLS,
        tool_choice={"type": "function", "function": {"name": "local-time"}},
        temperature=0,
    )
    [choice] = answer.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    [call] = choice.message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == "local-time"
    jsonschema.validate(json.loads(call.function.arguments), CITY)


def test_a_strict_tool_is_held_to_its_schema_wherever_it_is_called(
    service: ServiceProcess, client: openai.OpenAI
) -> None:
    """The marker is made likely; once it is written, a call follows."""
    start = service.post("/tokenize", {"model": "smol", "prompt": "<tool_call>"}).json()["tokens"]
    answer = client.chat.completions.create(
        model="smol",
        messages=ASKED,
        tools=TOOLS,
        temperature=0,
        max_tokens=100,
        logit_bias={str(token): 30 for token in start},
    )
    calls = answer.choices[0].message.tool_calls or []
    assert calls
    assert all(call.type == "function" for call in calls)
