"""What can be asked is accepted, and what cannot is refused in words."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from rag_graph import urls
from rag_graph.routing import ModelEntry
from rag_graph.settings import RagSettings


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:8001/v1", "https://api.example.com/v1", "http://[::1]:8001", "http://llm"],
)
def test_a_url_that_can_be_asked(url: str) -> None:
    urls.check(url)
    assert RagSettings(llm_url=url).llm_tiers[0] == [url]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("localhost:8001", "'localhost:8001' is not a URL such as"),
        ("127.0.0.1:8001/v1", "is not a URL such as"),
        ("ftp://host/v1", "is not a URL such as"),
        ("http://", "is not a URL such as"),
        ("http://host:port/v1", "is not a URL such as .*: Port could not be cast"),
        ("http://[::1/v1", "is not a URL such as .*: Invalid IPv6"),
        ("http://user:secret@host/v1", "the URL of host carries a user or password"),
    ],
)
def test_a_url_that_cannot(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        urls.check(url)
    assert "secret" not in str(caught.value)


def test_credentials_are_left_to_services_that_are_sent_them() -> None:
    assert RagSettings(reranker_url="http://user:secret@host/rerank").reranks


@pytest.mark.parametrize("field", ["llm_url", "llm_fallback_url", "embedder_url", "reranker_url"])
def test_a_setting_names_the_url_at_fault(field: str) -> None:
    with pytest.raises(ValidationError, match="'llm:8001' is not a URL") as caught:
        RagSettings(**{field: "llm:8001"})  # type: ignore[arg-type]
    assert caught.value.errors()[0]["loc"] == (field,)


def test_one_of_several_is_at_fault() -> None:
    with pytest.raises(ValidationError, match="'b:2' is not a URL"):
        RagSettings(llm_url="http://a:1, b:2")


def test_a_table_of_models_is_checked_too() -> None:
    with pytest.raises(ValidationError, match="'c:3' is not a URL"):
        ModelEntry(name="m", urls=("c:3",))
