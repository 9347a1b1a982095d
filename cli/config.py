"""`isthmus config`: every setting, its value, and where it came from."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.errors import CliError
from contracts.describe import ROWS, Row

CLASSES: Mapping[str, str] = {
    "LLM service": "llm_backend.settings:LlmSettings",
    "Retrieval and answers": "rag_graph.settings:RagSettings",
    "Gateway": "serve_app.settings:ServeSettings",
    "Command line": "cli.settings:CliSettings",
}
"""Described in processes of their own: this one may import neither side (docs/architecture.md)."""


def config(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show every setting. Exit status 1 if any value would be refused."""
    with ThreadPoolExecutor(len(CLASSES)) as pool:
        found = dict(zip(CLASSES, pool.map(read, CLASSES.values()), strict=True))
    seen: set[str] = set()
    for title, rows in found.items():
        found[title] = [row for row in rows if row.name not in seen]
        seen.update(row.name for row in rows)
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    if as_json:
        everything = [row.model_dump() for group in found.values() for row in group]
        typer.echo(json.dumps(everything, indent=2))
    else:
        for title, group in found.items():
            console.print(_table(title, group) if console.is_terminal else _lines(group))
    if any(row.problem for rows in found.values() for row in rows):
        raise typer.Exit(1)


def read(name: str) -> list[Row]:
    """Return the settings of the class at import path `name`.

    Raises:
        CliError: it cannot be described; the message ends with the reason.
    """
    done = subprocess.run(
        [sys.executable, "-m", "contracts.describe", name], capture_output=True, check=False
    )
    if not done.stdout:
        reason = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise CliError(f"The settings {name} cannot be read: {reason}")
    return ROWS.validate_json(done.stdout)


def _table(title: str, rows: list[Row]) -> Table:
    table = Table(
        "Setting", "Value", "From", "Meaning", title=title, title_justify="left", box=None
    )
    for row in rows:
        style = {"environment": "green", "file": "green"}.get(row.source, "dim")
        meaning = Text(_meaning(row), style="red" if row.problem else "")
        value = Text(row.value, overflow="fold")
        table.add_row(Text(row.name, no_wrap=True), value, Text(row.source, style=style), meaning)
    return table


def _lines(rows: list[Row]) -> Text:
    """Return a line for each setting, for pipes and logs."""
    return Text("\n".join(f"{r.name}={r.value}\t{r.source}\t{_meaning(r)}" for r in rows))


def _meaning(row: Row) -> str:
    return f"REFUSED: {row.problem}" if row.problem else row.description
