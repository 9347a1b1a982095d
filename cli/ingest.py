"""`isthmus ingest`: put files and folders into a collection."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from cli.errors import UsageError
from cli.gateway import Gateway, RefusedError
from cli.settings import CliSettings
from contracts.errors import Code

STORED = ("created", "replaced", "unchanged")


@dataclass(frozen=True)
class File:
    """One file to ingest, and the name that the document gets."""

    path: Path
    name: str
    walked: bool = False
    """Found in a folder rather than named: then a type that cannot be read is no failure."""


@dataclass(frozen=True)
class Outcome:
    """What became of one file."""

    name: str
    status: str
    """created, replaced, unchanged, skipped or failed."""
    detail: str

    @property
    def failed(self) -> bool:
        return self.status == "failed"


def ingest(
    paths: Annotated[list[Path], typer.Argument(help="Files, or folders to walk.")],
    collection: Annotated[str, typer.Option(help="Collection to put them into.")] = "default",
) -> None:
    """Ingest documents. Exit status 1 if any of them failed."""
    files = list(find(paths))
    if not files:
        raise UsageError("There are no files in what was named. Name a file, or another folder.")
    with Gateway.of(CliSettings()) as gateway:
        outcomes = show(Console(highlight=False), run(gateway, files, collection), len(files))
    if any(outcome.failed for outcome in outcomes):
        raise typer.Exit(1)


def find(paths: Iterable[Path]) -> Iterator[File]:
    """Yield the files that `paths` name, those of a folder in sorted order, hidden ones left out.

    Raises:
        UsageError: a path does not exist.
    """
    for path in paths:
        if path.is_dir():
            yield from _walk(path)
        elif path.is_file():
            yield File(path, _name(path))
        else:
            raise UsageError(f"There is no file or folder {path}. Check the path.")


def _walk(folder: Path) -> Iterator[File]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden:
            yield File(path, _name(path), walked=True)


def _name(path: Path) -> str:
    """Return the path as it was given, or below the working directory when it was absolute."""
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return path.as_posix()


def _medium(path: Path) -> str:
    """Return "image", "audio" and the like for a file that by its name holds no text, or ""."""
    medium = (mimetypes.guess_type(path.name)[0] or "").partition("/")[0]
    return medium if medium in {"image", "audio", "video", "font"} else ""


def run(gateway: Gateway, files: Iterable[File], collection: str) -> Iterator[Outcome]:
    """Upload one file after the other and yield what became of each.

    Raises:
        GatewayError: the gateway is gone.
    """
    for file in files:
        if file.walked and (medium := _medium(file.path)):
            yield Outcome(file.name, "skipped", f"There is no text to read in {medium} files.")
            continue
        try:
            report = gateway.add_document(file.name, file.path, collection)
            yield Outcome(file.name, report["status"], f"{report['chunks']} chunks")
        except RefusedError as error:
            unread = file.walked and error.refusal.code == Code.UNSUPPORTED_MEDIA_TYPE
            yield Outcome(file.name, "skipped" if unread else "failed", str(error))
        except OSError as error:
            yield Outcome(file.name, "failed", f"It cannot be read: {error.strerror}.")


def show(console: Console, outcomes: Iterator[Outcome], total: int) -> list[Outcome]:
    """Print each outcome under a bar (a terminal) or as a line, then the sum; return them all."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    seen: list[Outcome] = []
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("Ingesting", total=total)
        for outcome in outcomes:
            seen.append(outcome)
            console.print(_line(outcome), soft_wrap=True)
            progress.advance(task)
    stored = sum(outcome.status in STORED for outcome in seen)
    console.print(f"{stored} of {len(seen)} files are in the collection.")
    return seen


def _line(outcome: Outcome) -> Text:
    style = {"failed": "red", "skipped": "yellow", "unchanged": "dim"}.get(outcome.status, "green")
    return Text(f"{outcome.status:>9}", style=style).append(
        f"  {outcome.name}: {outcome.detail}", style="default"
    )
