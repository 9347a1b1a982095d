"""`isthmus ingest`: put files and folders into a collection."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.text import Text

from cli.errors import GatewayError, UsageError
from cli.gateway import ENDED, AbsentError, Gateway, RefusedError, SilentError
from cli.settings import CliSettings
from contracts.errors import Code
from rag_graph.ingest.files import File, find, medium_of

STORED = ("created", "replaced", "unchanged")
AT_ONCE = 32
"""Files on their way at the same time: what is ready together is committed together."""
AHEAD = 128
"""Files sent before the first of them is reported."""
BYTES_AHEAD = 64 * 2**20
"""Of these files, unless one alone is larger: the gateway holds what is on its way."""
OnJob = Callable[[dict[str, Any]], None]
"""Called with a job that takes its time, as it goes on."""


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
    try:
        files = list(find(paths))
    except FileNotFoundError as error:
        raise UsageError(str(error)) from error
    if not files:
        raise UsageError("There are no files in what was named. Name a file, or another folder.")
    with Gateway.of(CliSettings()) as gateway:
        outcomes = ingest_all(Console(highlight=False), gateway, files, collection)
    if any(outcome.failed for outcome in outcomes):
        raise typer.Exit(1)


def run(
    gateway: Gateway, files: Iterable[File], collection: str, on_job: OnJob = lambda _: None
) -> Iterator[Outcome]:
    """Upload the files, several at a time, and yield what became of each, in their order.

    A gateway that is gone ends the run; what ended before is yielded first.

    Raises:
        AbsentError: the gateway is gone.
        SilentError: it answers no more.
    """
    waiting: deque[tuple[Future[Outcome], int]] = deque()
    ahead = 0
    over = Event()
    pool = ThreadPoolExecutor(AT_ONCE, "upload")
    try:
        for file in files:
            size = _size(file)
            while waiting and (len(waiting) >= AHEAD or ahead + size > BYTES_AHEAD):
                sent, bytes_sent = waiting.popleft()
                yield sent.result()
                ahead -= bytes_sent
            waiting.append((pool.submit(_upload, gateway, file, collection, on_job, over), size))
            ahead += size
        while waiting:
            yield waiting.popleft()[0].result()
    except (AbsentError, SilentError):
        over.set()
        pool.shutdown(cancel_futures=True)
        yield from _finished(sent for sent, _ in waiting)
        raise
    finally:
        over.set()  # what was sent goes on in the gateway
        pool.shutdown(cancel_futures=True)


def _finished(uploads: Iterable[Future[Outcome]]) -> Iterator[Outcome]:
    """Yield the outcomes of the uploads that were made, of a pool that is shut down."""
    for upload in uploads:
        if not upload.cancelled() and upload.exception() is None:
            yield upload.result()


def _size(file: File) -> int:
    """Return the file's bytes; 0 if it is gone, which its upload then says."""
    try:
        return file.path.stat().st_size
    except OSError:
        return 0


def _upload(gateway: Gateway, file: File, collection: str, on_job: OnJob, over: Event) -> Outcome:
    if file.name != _printable(file.name):
        return Outcome(file.name, "failed", "Its name is not UTF-8. Rename it.")
    if file.walked and (medium := medium_of(file.path)):
        return Outcome(file.name, "skipped", f"There is no text to read in {medium} files.")
    try:
        return _outcome(file, _sent(gateway, file, collection, on_job, over))
    except RefusedError as error:
        return _failure(file, error.refusal.code, str(error))
    except (AbsentError, SilentError):
        raise  # no other file would fare better
    except GatewayError as error:
        return Outcome(file.name, "failed", str(error))
    except OSError as error:
        return Outcome(file.name, "failed", f"It cannot be read: {error.strerror}.")


def _sent(
    gateway: Gateway, file: File, collection: str, on_job: OnJob, over: Event
) -> dict[str, Any]:
    """Return the file's job, which has ended unless all was `over` before."""
    job = gateway.add_document(file.name, file.path, collection)
    if job["status"] not in ENDED:
        for news in gateway.follow(job["id"]):
            on_job(news)
            job = news
            if over.is_set():
                break
    return job


def _outcome(file: File, job: dict[str, Any]) -> Outcome:
    if job["error"] is not None:
        return _failure(file, job["error"]["code"], job["error"]["message"])
    if job["status"] == "cancelled":
        return Outcome(file.name, "failed", "It was cancelled.")
    if job["status"] not in ENDED:
        return Outcome(file.name, "failed", "It was sent, but not waited for.")
    return Outcome(file.name, job["result"], f"{job['chunks_total']} chunks")


def _failure(file: File, code: str, message: str) -> Outcome:
    unread = file.walked and code == Code.UNSUPPORTED_MEDIA_TYPE
    return Outcome(file.name, "skipped" if unread else "failed", message)


class Report:
    """A bar (on a terminal), a line for each outcome, and the sum with every failure once more."""

    def __init__(self, console: Console, total: int) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self._console = console
        self._total = total
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self._files = self._progress.add_task("Ingesting", total=total)
        self._jobs: dict[str, TaskID] = {}

    def job(self, job: dict[str, Any]) -> None:
        """Show a document that takes its time: chunks of it that are done, and seconds left."""
        eta = "" if job["eta_s"] is None else f", {job['eta_s']:.0f} s left"
        text = f"{job['name']}: {job['status']}{eta}"
        if job["id"] not in self._jobs:
            self._jobs[job["id"]] = self._progress.add_task(text)
        self._progress.update(
            self._jobs[job["id"]],
            description=text,
            total=job["chunks_total"],
            completed=job["chunks_done"],
            visible=job["status"] not in ENDED,
        )

    def show(self, outcomes: Iterable[Outcome]) -> list[Outcome]:
        """Print each outcome as it comes, then the sum, whatever ends them; return them all."""
        seen: list[Outcome] = []
        try:
            with self._progress as progress:
                for outcome in outcomes:
                    seen.append(outcome)
                    self._console.print(_line(outcome), soft_wrap=True)
                    progress.advance(self._files)
        finally:
            self._sum_up(seen)
        return seen

    def _sum_up(self, seen: list[Outcome]) -> None:
        stored = sum(outcome.status in STORED for outcome in seen)
        self._console.print(f"{stored} of {self._total} files are in the collection.")
        if rest := self._total - len(seen):
            self._console.print(f"{rest} were not sent, or had no answer.")
        failed = [outcome for outcome in seen if outcome.failed]
        if failed and len(seen) > len(failed):
            self._console.print(f"{len(failed)} failed:")
            for outcome in failed:
                self._console.print(_line(outcome), soft_wrap=True)


def ingest_all(
    console: Console, gateway: Gateway, files: list[File], collection: str
) -> list[Outcome]:
    """Upload the files and show how it goes; return what became of each.

    Raises:
        AbsentError: the gateway is gone.
        SilentError: it answers no more.
    """
    report = Report(console, len(files))
    return report.show(run(gateway, files, collection, report.job))


def _printable(name: str) -> str:
    """Return the name without the bytes that are not UTF-8, which Python keeps as surrogates."""
    return name.encode(errors="replace").decode()


def _line(outcome: Outcome) -> Text:
    style = {"failed": "red", "skipped": "yellow", "unchanged": "dim"}.get(outcome.status, "green")
    return Text(f"{outcome.status:>9}", style=style).append(
        f"  {_printable(outcome.name)}: {outcome.detail}", style="default"
    )
