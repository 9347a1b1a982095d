"""The command line's view of the other packages' settings agrees with theirs."""

from __future__ import annotations

import pytest

from cli.config import CLASSES, read
from cli.settings import CliSettings


@pytest.mark.parametrize("title", ["LLM service", "Retrieval and answers", "Gateway"])
def test_shared_settings_have_the_owners_defaults(title: str) -> None:
    owners = {row.name: row for row in read(CLASSES[title])}
    shared = [name.upper() for name in CliSettings.model_fields if name.upper() in owners]
    assert shared, "the test has nothing to compare"
    for name in shared:
        assert owners[name].source == "default"
        assert owners[name].value == str(CliSettings.model_fields[name.lower()].default)


def test_urls_come_from_hosts_and_ports() -> None:
    settings = CliSettings(serve_host="0.0.0.0", serve_port=9, llm_port=8)  # noqa: S104
    assert (settings.gateway_url, settings.llm_url) == ("http://127.0.0.1:9", "http://127.0.0.1:8")


def test_urls_that_are_set_win() -> None:
    settings = CliSettings(isthmus_url="https://rag.example/", rag_llm_url="http://llm/v1")
    assert (settings.gateway_url, settings.llm_url) == ("https://rag.example", "http://llm/v1")
