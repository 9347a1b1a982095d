"""`isthmus ask`: stream an answer, then its numbered sources."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from cli.gateway import Answer, Gateway, RefusedError
from cli.settings import CliSettings

QUOTE_LENGTH = 160


def ask(
    question: Annotated[str, typer.Argument(help="What you want to know.")],
    collection: Annotated[str, typer.Option(help="Collection to search.")] = "default",
    top_k: Annotated[int | None, typer.Option(min=1, max=100, help="Passages to use.")] = None,
) -> None:
    """Ask the documents; the answer streams, its sources follow."""
    console = Console(highlight=False, soft_wrap=True)
    with Gateway.of(CliSettings()) as gateway:
        answer(gateway, console, question, collection, top_k)


def answer(
    gateway: Gateway, console: Console, question: str, collection: str, top_k: int | None
) -> None:
    """Print the answer as it comes, then its sources.

    Raises:
        GatewayError: there is no answer; passages that came in its place are printed.
    """
    found = Answer()
    try:
        for piece in gateway.ask(question, collection, top_k, found):
            console.print(Text(piece), end="")
    except RefusedError as error:
        _print_passages(console, error.refusal.passages)
        raise
    console.print()
    _print_sources(console, found.citations)


def _print_sources(console: Console, citations: Sequence[dict[str, Any]]) -> None:
    if not citations:
        return
    console.print(Text("\nSources", style="bold"))
    for citation in citations:
        line = Text(f"[{citation['number']}] ", style="cyan")
        console.print(line.append_text(Text(_place(citation), style="default")))
        console.print(Text(f"    “{_short(citation['quote'])}”", style="dim"))


def _print_passages(console: Console, passages: Sequence[dict[str, Any]]) -> None:
    if not passages:
        return
    console.print(Text("No answer could be generated. Passages found:", style="bold"))
    for number, passage in enumerate(passages, 1):
        console.print(Text(f"[{number}] {_place(passage)}", style="cyan"))
        console.print(Text(f"    {_short(passage['text'])}"))


def _place(found: dict[str, Any]) -> str:
    """Return where a passage stands: title, source, page, headings."""
    page = f"p. {found['page']}" if found["page"] else None
    parts = [found["title"], found["source"], page, found["heading"]]
    return ", ".join(dict.fromkeys(part for part in parts if part))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= QUOTE_LENGTH else f"{line[: QUOTE_LENGTH - 1].rstrip()}…"
