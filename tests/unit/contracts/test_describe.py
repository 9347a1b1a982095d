"""Settings as rows: value, source, masked secrets, refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from contracts.describe import MASK, Row, describe


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="DEMO_", frozen=True, env_file="demo.env")

    port: int = Field(default=8000, ge=1, description="Port.")
    key: SecretStr = Field(default=SecretStr(""), description="Key.")
    name: str = Field(default="x", description="Name.")


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def rows() -> dict[str, Row]:
    return {row.name: row for row in describe(Settings)}


def test_defaults() -> None:
    found = rows()
    assert list(found) == ["DEMO_PORT", "DEMO_KEY", "DEMO_NAME"]
    port = found["DEMO_PORT"]
    assert (port.value, port.source, port.description) == ("8000", "default", "Port.")
    assert found["DEMO_KEY"].value == ""


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("demo.env").write_text("DEMO_PORT=1\nDEMO_NAME=file\n")
    monkeypatch.setenv("DEMO_PORT", "2")
    found = rows()
    assert (found["DEMO_PORT"].value, found["DEMO_PORT"].source) == ("2", "environment")
    assert (found["DEMO_NAME"].value, found["DEMO_NAME"].source) == ("file", "file")


@pytest.mark.parametrize("port", ["2", "not a port"])
def test_secrets_are_masked_even_when_something_else_is_refused(
    monkeypatch: pytest.MonkeyPatch, port: str
) -> None:
    monkeypatch.setenv("DEMO_KEY", "hunter2")
    monkeypatch.setenv("DEMO_PORT", port)
    found = rows()
    assert found["DEMO_KEY"].value == MASK
    assert found["DEMO_PORT"].value == port
    assert ("integer" in found["DEMO_PORT"].problem) == (port != "2")
