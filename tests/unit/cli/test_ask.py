"""`isthmus ask` over a gateway in a function."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from cli.ask import answer
from cli.errors import GatewayError
from cli.gateway import Gateway, RefusedError
from contracts.errors import Code
from tests.unit.cli.conftest import FakeGateway


def ask(gateway: Gateway, *, terminal: bool = False, top_k: int | None = None) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, highlight=False, soft_wrap=True)
    answer(gateway, console, "Which taint?", "default", top_k)
    return out.getvalue()


def test_the_answer_is_followed_by_its_sources(gateway: Gateway) -> None:
    assert ask(gateway) == (
        "The taint is [b]sku=gpu[/b]. [1]\n\nSources\n"
        "[1] Pools, docs/pools.md, p. 3, Taints\n    “The taint is sku=gpu.”\n"
    )


def test_only_a_terminal_gets_colours(gateway: Gateway) -> None:
    coloured = ask(gateway, terminal=True)
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == ask(gateway)


def test_options_are_sent(gateway: Gateway, fake: FakeGateway) -> None:
    ask(gateway, top_k=3)
    (sent,) = fake.asked
    assert (sent["collection"], sent["top_k"], sent["stream"]) == ("default", 3, True)


def test_a_refusal_shows_the_passages_that_were_found(
    gateway: Gateway, fake: FakeGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.refusals["/v1/chat/completions"] = (Code.NOT_READY, "The LLM is down.")
    fake.passages = [{"title": "T", "source": "s", "page": None, "heading": None, "text": "Hi."}]
    out = io.StringIO()
    with pytest.raises(RefusedError, match=r"The LLM is down\."):
        answer(gateway, Console(file=out), "?", "default", None)
    assert "[1] T, s\n    Hi." in out.getvalue()


def test_an_error_in_the_middle_is_told(gateway: Gateway, fake: FakeGateway) -> None:
    fake.breaks_off = True
    with pytest.raises(GatewayError, match=r"Broke\."):
        ask(gateway)
