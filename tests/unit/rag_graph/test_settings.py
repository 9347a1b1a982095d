"""Settings as the environment gives them."""

from __future__ import annotations

import pytest

from rag_graph.settings import OPTIONAL_PATHS, RagSettings


@pytest.mark.parametrize("name", OPTIONAL_PATHS)
def test_an_empty_path_is_none(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"RAG_{name.upper()}", "")
    assert getattr(RagSettings(), name) is None


def test_no_reranker_is_made_of_an_empty_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_RERANKER_DIR", "")
    assert not RagSettings().reranks
