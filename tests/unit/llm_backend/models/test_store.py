from __future__ import annotations

import json
from pathlib import Path

import pytest

from llm_backend.errors import ModelInvalidError, ModelNotFoundError
from llm_backend.models import store
from llm_backend.settings import LlmSettings
from tests.support.tiny_model import write_tiny_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "model")


def test_a_good_directory(model: Path) -> None:
    settings = LlmSettings(model=str(model))
    store.check(settings)
    assert store.resolve(settings) == model
    assert store.weight_files(model) == [model / "model.safetensors"]


def test_no_directory() -> None:
    with pytest.raises(ModelNotFoundError, match="no model directory"):
        store.check(LlmSettings(model="/nowhere"))


def test_unknown_bundle() -> None:
    with pytest.raises(ModelNotFoundError, match="no bundled model 'x'"):
        store.check(LlmSettings(model="bundled:x"))


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(model: Path, file: str) -> None:
    (model / file).unlink()
    with pytest.raises(ModelInvalidError, match=file):
        store.check(LlmSettings(model=str(model)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ('{"a":' * 100_000, "not valid JSON"),
        ("[]", "no JSON object"),
        ("{}", "no model_type"),
    ],
)
def test_a_wrong_config(model: Path, content: str, message: str) -> None:
    (model / "config.json").write_text(content)
    with pytest.raises(ModelInvalidError, match=message):
        store.check(LlmSettings(model=str(model)))


def test_pickles_are_refused(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    with pytest.raises(ModelInvalidError, match="pickled"):
        store.check(LlmSettings(model=str(model)))


def test_a_missing_shard_is_named(model: Path) -> None:
    index = {"weight_map": {"a": "1.safetensors", "b": "2.safetensors", "c": "1.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    (model / "1.safetensors").touch()
    assert store.weight_files(model) == [model / "1.safetensors", model / "2.safetensors"]
    with pytest.raises(ModelInvalidError, match=r"lacks 2\.safetensors"):
        store.check(LlmSettings(model=str(model)))


@pytest.mark.parametrize(
    "index",
    [{}, *({"weight_map": wrong} for wrong in (None, {}, [], ["a"], "a", {"a": 1}, {"a": None}))],
)
def test_an_index_that_is_none_is_named(model: Path, index: object) -> None:
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelInvalidError, match=r"index\.json has no weight_map"):
        store.check(LlmSettings(model=str(model)))


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ModelInvalidError, match="LLM_CACHE_DIR"):
        store.resolve(LlmSettings(cache_dir=file))
