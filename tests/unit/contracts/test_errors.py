"""The error envelope: every code has a status, every complaint names its field."""

from __future__ import annotations

from typing import Self

import pytest
from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from contracts import errors
from contracts.errors import STATUS, Code
from contracts.openai import ChatCompletionRequest

MESSAGES = [{"role": "user", "content": "hi"}]


def complaint(**fields: object) -> errors.ErrorBody:
    with pytest.raises(ValidationError) as caught:
        ChatCompletionRequest.model_validate({"model": "m", "messages": MESSAGES, **fields})
    return errors.from_validation_error(caught.value)


def test_every_code_has_a_status_and_a_type() -> None:
    codes = {value for name, value in vars(Code).items() if name.isupper()}
    assert codes == set(STATUS)
    for code in codes:
        assert errors.body(code, "x").type.endswith("_error")
    assert codes >= errors.RETRYABLE


def test_a_field_that_is_not_supported_is_named() -> None:
    body = complaint(logit_biased={"1": 2})
    assert (body.code, body.param) == (Code.UNSUPPORTED_FIELD, "logit_biased")
    assert "'logit_biased' is not supported" in body.message


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "robot", "content": ""}]}, "messages[0].role"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"model": ""}, "model"),
    ],
)
def test_a_bad_value_is_an_invalid_request_that_names_it(
    fields: dict[str, object], param: str
) -> None:
    body = complaint(**fields)
    assert body.code == Code.INVALID_REQUEST
    assert body.param is not None
    assert body.param.startswith(param)
    assert repr(body.param) in body.message


def test_a_rule_over_several_fields_speaks_plainly() -> None:
    body = complaint(max_tokens=1, max_completion_tokens=2)
    assert body.message == (
        "The request body: max_tokens and max_completion_tokens differ; send one of them."
    )


@pytest.mark.parametrize("raw", [b"{", b"not json", b"\xff\xfe", b""])
def test_a_body_that_is_not_json_says_so(raw: bytes) -> None:
    with pytest.raises(ValidationError) as caught:
        ChatCompletionRequest.model_validate_json(raw)
    assert errors.from_validation_error(caught.value).code == Code.INVALID_JSON


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="TEST_")

    low: int = Field(default=0, lt=10)
    high: int = 1

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError("set TEST_LOW below TEST_HIGH.")
        return self


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"low": "12"}, "TEST_LOW: input should be less than 10."),
        (
            {"low": "5"},
            "Settings that do not fit each other: set TEST_LOW below TEST_HIGH.",
        ),
    ],
)
def test_a_setting_that_cannot_be_is_named(values: dict[str, str], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate(values)
    assert errors.of_settings(caught.value, "TEST_") == said
