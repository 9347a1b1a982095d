"""`isthmus ask`: stream an answer, then its numbered sources."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from cli.errors import GatewayError
from cli.settings import CliSettings
from isthmus_client import Answer, Citation, Client, RefusedError, UnreachableError

QUOTE_LENGTH = 160


def ask(
    question: Annotated[str, typer.Argument(help="What you want to know.")],
    collection: Annotated[str, typer.Option(help="Collection to search.")] = "default",
    top_k: Annotated[int | None, typer.Option(min=1, max=100, help="Passages to use.")] = None,
) -> None:
    """Ask the documents; the answer streams, its sources follow."""
    asyncio.run(_ask(CliSettings(), question, collection, top_k))


async def _ask(settings: CliSettings, question: str, collection: str, top_k: int | None) -> None:
    console = Console(highlight=False, soft_wrap=True)
    key = settings.isthmus_api_key.get_secret_value()
    async with Client(settings.gateway_url, key) as client:
        await answer(client, console, question, collection, top_k)


async def answer(
    client: Client, console: Console, question: str, collection: str, top_k: int | None
) -> None:
    """Print the answer as it comes, then its sources.

    Raises:
        GatewayError: there is no answer; passages that came in its place are printed.
    """
    wanted = client.stream(question, collection=collection, top_k=top_k)
    try:
        async with aclosing(wanted) as pieces:
            async for piece in pieces:
                if isinstance(piece, Answer):
                    console.print()
                    _print_sources(console, piece.citations)
                    _print_degraded(piece.info)
                else:
                    console.print(Text(piece), end="")
    except RefusedError as error:
        _print_passages(console, error.passages)
        raise GatewayError(str(error)) from error
    except UnreachableError as error:
        hint = "Start one with `isthmus up`, or set ISTHMUS_URL to where it is."
        raise GatewayError(f"{error} {hint}") from error


def _print_degraded(info: Mapping[str, Any]) -> None:
    """Say on stderr what an answer lacks: it may be piped on."""
    if not info.get("degraded"):
        return
    if info.get("grounded"):
        what = "no model could answer: these are the passages that were found"
    else:
        what = "this answer does not rest on the documents: they could not be searched"
    typer.echo(f"isthmus: {what}. ({info.get('reason', 'No reason was told.')})", err=True)


def _print_sources(console: Console, citations: Sequence[Citation]) -> None:
    if not citations:
        return
    console.print(Text("\nSources", style="bold"))
    for citation in citations:
        line = Text(f"[{citation.number}] ", style="cyan")
        place = _place(citation.model_dump())
        console.print(line.append_text(Text(place, style="default")))
        console.print(Text(f"    “{_short(citation.quote)}”", style="dim"))


def _print_passages(console: Console, passages: Sequence[Mapping[str, Any]]) -> None:
    if not passages:
        return
    console.print(Text("No answer could be generated. Passages found:", style="bold"))
    for number, passage in enumerate(passages, 1):
        console.print(Text(f"[{number}] {_place(passage)}", style="cyan"))
        console.print(Text(f"    {_short(passage['text'])}"))


def _place(found: Mapping[str, Any]) -> str:
    """Return where a passage stands: title, source, page, headings."""
    page = f"p. {found['page']}" if found["page"] else None
    parts = [found["title"], found["source"], page, found["heading"]]
    return ", ".join(dict.fromkeys(part for part in parts if part))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= QUOTE_LENGTH else f"{line[: QUOTE_LENGTH - 1].rstrip()}…"
