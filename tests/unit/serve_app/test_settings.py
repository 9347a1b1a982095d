"""Settings that cannot be are told by the names of their variables."""

from __future__ import annotations

import sys

import pytest

from rag_graph.settings import RagSettings
from serve_app import bulk
from serve_app.errors import SettingsError
from serve_app.settings import ServeSettings, read


def test_given_values_go_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVE_PORT", "8010")
    assert read(ServeSettings).port == 8010
    assert read(ServeSettings, {"SERVE_PORT": "8011", "RAG_TOP_K": "no matter"}).port == 8011


def test_the_variable_at_fault_is_named() -> None:
    with pytest.raises(SettingsError, match="SERVE_PORT: input should be less than"):
        read(ServeSettings, {"SERVE_PORT": "99999"})


def test_settings_that_do_not_fit_each_other_are_told_too() -> None:
    with pytest.raises(SettingsError, match="do not fit each other: set all of RAG_LLM_TLS_CA"):
        read(RagSettings, {"RAG_LLM_TLS_CA": "/ca.pem"})


def test_bulk_ingestion_says_so_and_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bulk", "folder"])
    monkeypatch.setenv("RAG_LLM_URL", "llm:8001")
    assert bulk.main() == 2
    assert "RAG_LLM_URL: 'llm:8001' is not a URL" in capsys.readouterr().err
