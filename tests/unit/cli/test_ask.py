"""`isthmus ask` over a gateway in a function."""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
from rich.console import Console

from cli.ask import answer
from cli.errors import GatewayError
from contracts.errors import Code
from isthmus_client import Client
from tests.unit.cli.conftest import FakeGateway


@pytest.fixture
async def client(fake: FakeGateway) -> AsyncIterator[Client]:
    transport: Callable[[httpx.Request], httpx.Response] = fake
    async with Client("http://gateway", "secret", httpx.MockTransport(transport)) as client:
        yield client


async def ask(client: Client, *, terminal: bool = False, top_k: int | None = None) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, highlight=False, soft_wrap=True)
    await answer(client, console, "Which taint?", "default", top_k)
    return out.getvalue()


async def test_the_answer_is_followed_by_its_sources(client: Client) -> None:
    assert await ask(client) == (
        "The taint is [b]sku=gpu[/b]. [1]\n\nSources\n"
        "[1] Pools, docs/pools.md, p. 3, Taints\n    “The taint is sku=gpu.”\n"
    )


async def test_only_a_terminal_gets_colours(client: Client) -> None:
    coloured = await ask(client, terminal=True)
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == await ask(client)


async def test_options_are_sent(client: Client, fake: FakeGateway) -> None:
    await ask(client, top_k=3)
    (sent,) = fake.asked
    assert (sent["collection"], sent["top_k"], sent["stream"]) == ("default", 3, True)


async def test_a_refusal_shows_the_passages_that_were_found(
    client: Client, fake: FakeGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.refusals["/v1/chat/completions"] = (Code.NOT_READY, "The LLM is down.")
    fake.passages = [{"title": "T", "source": "s", "page": None, "heading": None, "text": "Hi."}]
    out = io.StringIO()
    with pytest.raises(GatewayError, match=r"The LLM is down\."):
        await answer(client, Console(file=out), "?", "default", None)
    assert "[1] T, s\n    Hi." in out.getvalue()


@pytest.mark.parametrize(
    ("grounded", "said"), [(True, "no model could answer"), (False, "does not rest on")]
)
async def test_a_degraded_answer_is_marked_on_stderr(
    client: Client,
    fake: FakeGateway,
    capsys: pytest.CaptureFixture[str],
    *,
    grounded: bool,
    said: str,
) -> None:
    whole = await ask(client)
    assert capsys.readouterr().err == ""
    fake.info = {"degraded": True, "grounded": grounded, "reason": "It is down."}
    assert await ask(client) == whole
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("isthmus: ")
    assert said in line
    assert "It is down." in line


async def test_an_error_in_the_middle_is_told(client: Client, fake: FakeGateway) -> None:
    fake.breaks_off = True
    with pytest.raises(GatewayError, match=r"Broke\."):
        await ask(client)
