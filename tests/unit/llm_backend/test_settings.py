from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from llm_backend import settings
from llm_backend.errors import SettingsError
from llm_backend.settings import LlmSettings


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("bundled:smollm2-135m-instruct", "smollm2-135m-instruct"),
        ("/models/llama/", "llama"),
        ("llama", "llama"),
    ],
)
def test_model_id(model: str, name: str) -> None:
    assert LlmSettings(model=model).model_id == name
    assert LlmSettings(model=model, served_model_name="mine").model_id == "mine"


def test_every_field_is_described() -> None:
    assert all(field.description for field in LlmSettings.model_fields.values())


def test_frozen() -> None:
    with pytest.raises(ValidationError):
        LlmSettings().port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("LLM_PORT", "many", "LLM_PORT: input should be a valid integer"),
        ("LLM_DTYPE", "float8", "LLM_DTYPE: input should be"),
        ("LLM_TLS_CERT", "/x", "set both LLM_TLS_CERT and LLM_TLS_KEY"),
    ],
)
def test_a_wrong_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=message):
        settings.load()


def test_home_is_expanded() -> None:
    assert LlmSettings(cache_dir=Path("~/x")).cache_dir == Path.home() / "x"


def test_the_key_is_not_shown() -> None:
    assert "secret" not in repr(LlmSettings(api_key="secret"))  # type: ignore[arg-type]
