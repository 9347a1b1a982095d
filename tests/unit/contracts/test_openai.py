"""Request types: what is declared is honoured, what is derived is right."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from contracts.openai import ChatCompletionRequest, ChatMessage, CompletionRequest, TextPart


def chat(**fields: object) -> ChatCompletionRequest:
    messages = [{"role": "user", "content": "hi"}]
    return ChatCompletionRequest.model_validate({"model": "m", "messages": messages, **fields})


def test_content_parts_are_joined() -> None:
    parts = [TextPart(type="text", text="a"), TextPart(type="text", text="b")]
    assert ChatMessage(role="user", content=parts).text == "ab"


@pytest.mark.parametrize(("stop", "expected"), [(None, []), ("x", ["x"]), (["x", "y"], ["x", "y"])])
def test_stop_is_read_as_a_list(stop: object, expected: list[str]) -> None:
    assert chat(stop=stop).stop_sequences == expected


@pytest.mark.parametrize("stop", ["", ["a", ""], list("abcde")])
def test_a_stop_sequence_that_cannot_work_is_refused(stop: object) -> None:
    with pytest.raises(ValidationError, match="stop sequence"):
        chat(stop=stop)


def test_both_names_of_the_token_limit_work() -> None:
    assert chat(max_tokens=3).token_limit == 3
    assert chat(max_completion_tokens=4).token_limit == 4
    assert chat().token_limit is None
    assert CompletionRequest(model="m", prompt="p", max_tokens=5).token_limit == 5


def test_stream_options_need_a_stream() -> None:
    assert chat(stream=True, stream_options={"include_usage": True}).include_usage
    assert not chat(stream=True).include_usage
    with pytest.raises(ValidationError, match="only allowed when stream"):
        chat(stream_options={"include_usage": True})
