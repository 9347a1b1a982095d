"""`isthmus ingest`: which files, and what is said of each."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import httpx
import pytest
from rich.console import Console

from cli.gateway import AbsentError, Gateway, SilentError
from cli.ingest import ingest_all, run
from contracts import sse
from contracts.errors import Code
from rag_graph.ingest.files import File, find
from tests.unit.cli.conftest import JOB, FakeGateway


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs/.git").mkdir(parents=True)
    for name in ("docs/b.md", "docs/a.zip", "docs/.git/config", "docs/.hidden"):
        (tmp_path / name).write_text("text")
    return tmp_path


def names(*paths: str) -> list[str]:
    return [file.name for file in find([Path(path) for path in paths])]


def test_folders_are_walked_without_what_is_hidden() -> None:
    assert names("docs") == ["docs/a.zip", "docs/b.md"]


def test_absolute_paths_below_the_working_directory_get_relative_names(folder: Path) -> None:
    assert names(str(folder / "docs/b.md")) == ["docs/b.md"]


def test_a_loop_of_links_is_not_walked(folder: Path) -> None:
    (folder / "docs/again").symlink_to(folder / "docs", target_is_directory=True)
    (folder / "docs/self.md").symlink_to(folder / "docs/self.md")
    (folder / "docs/one").symlink_to(folder / "docs/two")
    (folder / "docs/two").symlink_to(folder / "docs/one")
    assert names("docs") == ["docs/a.zip", "docs/b.md"]


def test_a_path_that_is_not_there_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.md"):
        names("nothing.md")


@pytest.mark.parametrize(("path", "status"), [("docs", "skipped"), ("docs/a.zip", "failed")])
def test_a_type_that_cannot_be_read_fails_only_when_it_was_named(
    gateway: Gateway, fake: FakeGateway, path: str, status: str
) -> None:
    fake.refusals["docs/a.zip"] = (Code.UNSUPPORTED_MEDIA_TYPE, "a.zip cannot be read.")
    outcomes = list(run(gateway, find([Path(path)]), "default"))
    assert (outcomes[0].status, outcomes[0].detail) == (status, "a.zip cannot be read.")
    assert fake.uploads == (["docs/b.md"] if path == "docs" else [])


def test_pictures_in_a_folder_are_not_even_sent(
    gateway: Gateway, fake: FakeGateway, folder: Path
) -> None:
    (folder / "docs/a.zip").rename(folder / "docs/a.png")
    outcomes = list(run(gateway, find([Path("docs")]), "default"))
    assert [outcome.status for outcome in outcomes] == ["skipped", "created"]
    assert "image" in outcomes[0].detail
    assert fake.uploads == ["docs/b.md"]


def test_the_others_go_on_after_a_failure(gateway: Gateway, fake: FakeGateway) -> None:
    fake.refusals["docs/a.zip"] = (Code.UNREADABLE_DOCUMENT, "It is broken.")
    out = io.StringIO()
    seen = ingest_all(Console(file=out), gateway, list(find([Path("docs")])), "default")
    assert [outcome.failed for outcome in seen] == [True, False]
    assert "failed  docs/a.zip: It is broken." in out.getvalue()
    assert "1 of 2 files are in the collection." in out.getvalue()


def breaking(fake: FakeGateway, breaks: Callable[[str], Exception | None]) -> Gateway:
    """Return a client of the gateway whose uploads of some names end in an exception."""

    def answer(request: httpx.Request) -> httpx.Response:
        name = request.read().decode().partition('filename="')[2].partition('"')[0]
        if error := breaks(name):
            raise error
        return fake(request)

    return Gateway("http://gateway", "secret", httpx.MockTransport(answer))


def test_a_file_whose_connection_breaks_off_fails_alone(
    fake: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.gateway.BREAK_PAUSES_S", (0.0,))
    gateway = breaking(fake, lambda name: httpx.ReadError("x") if name == "docs/a.zip" else None)
    out = io.StringIO()
    files = list(find([Path("docs")]))
    seen = ingest_all(Console(file=out, width=200), gateway, files, "default")
    assert [outcome.status for outcome in seen] == ["failed", "created"]
    assert "docs/a.zip: The gateway at http://gateway broke off (ReadError)." in out.getvalue()
    assert "1 of 2 files are in the collection." in out.getvalue()


@pytest.mark.parametrize(
    ("gone", "kind", "message"),
    [
        (httpx.ConnectError("refused"), AbsentError, "There is no gateway at http://gateway"),
        (httpx.ReadTimeout("silence"), SilentError, "The gateway at http://gateway does not"),
    ],
)
def test_a_gateway_that_is_gone_ends_the_run_after_what_was_done(
    fake: FakeGateway,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    gone: Exception,
    kind: type[Exception],
    message: str,
) -> None:
    monkeypatch.setattr("cli.gateway.BREAK_PAUSES_S", (0.0,))
    monkeypatch.setattr("cli.ingest.AT_ONCE", 1)
    for name in ("c", "d"):
        (folder / f"docs/{name}.md").write_text("text")
    fake.refusals["docs/a.zip"] = (Code.UNREADABLE_DOCUMENT, "It is broken.")
    gateway = breaking(fake, lambda name: gone if name >= "docs/c.md" else None)
    out = io.StringIO()
    with pytest.raises(kind, match=message):
        ingest_all(Console(file=out), gateway, list(find([Path("docs")])), "default")
    said = out.getvalue()
    assert "1 of 4 files are in the collection.\n2 were not sent, or had no answer." in said
    assert said.count("failed  docs/a.zip: It is broken.") == 2


def test_what_was_stored_before_the_gateway_went_is_told(
    fake: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.gateway.BREAK_PAUSES_S", (0.0,))
    other = Event()

    def breaks(name: str) -> Exception | None:
        if name == "docs/a.zip":
            other.wait(10)
            return httpx.ConnectError("refused")
        other.set()
        return None

    gateway = breaking(fake, breaks)
    outcomes = run(gateway, find([Path("docs")]), "default")
    assert next(outcomes).name == "docs/b.md"
    with pytest.raises(AbsentError):
        next(outcomes)


class Endless(httpx.SyncByteStream):
    """The events of a job that does not end; tells `begun`."""

    def __init__(self, begun: Event) -> None:
        self._begun = begun

    def __iter__(self) -> Iterator[bytes]:
        while True:
            yield sse.encode(json.dumps({**JOB, "name": "docs/b.md", "status": "embedding"}))
            self._begun.set()


def test_what_is_under_way_when_the_gateway_goes_is_no_success(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cli.gateway.BREAK_PAUSES_S", (0.0,))
    begun = Event()

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/jobs/j1/events":
            return httpx.Response(200, stream=Endless(begun))
        if b"docs/b.md" in request.read():
            return httpx.Response(202, json={**JOB, "status": "embedding", "result": None})
        begun.wait(10)
        raise httpx.ConnectError("refused")

    gateway = Gateway("http://gateway", "secret", httpx.MockTransport(answer))
    outcomes = run(gateway, find([Path("docs")]), "default")
    outcome = next(outcomes)
    assert (outcome.name, outcome.detail) == ("docs/b.md", "It was sent, but not waited for.")
    assert outcome.failed


def test_a_name_that_is_not_utf8_fails_alone(
    gateway: Gateway, fake: FakeGateway, folder: Path
) -> None:
    (folder / "docs" / os.fsdecode(b"caf\xe9.md")).write_text("text")
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    ingest_all(Console(file=out, width=200), gateway, list(find([Path("docs")])), "default")
    out.seek(0)
    assert "failed  docs/caf?.md: Its name is not UTF-8. Rename it." in out.read()
    assert sorted(fake.uploads) == ["docs/a.zip", "docs/b.md"]


def test_a_file_that_vanished_is_a_failure(gateway: Gateway) -> None:
    (outcome,) = run(gateway, [File(Path("gone.md"), "gone.md")], "default")
    assert outcome.failed
    assert "No such file" in outcome.detail


def test_large_files_wait_for_each_other(
    gateway: Gateway, fake: FakeGateway, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.ingest.BYTES_AHEAD", 7)
    for name in "cdef":
        (folder / f"docs/{name}.md").write_text("text")
    outcomes = run(gateway, find([Path("docs")]), "default")
    seen = [len(fake.uploads) for _ in outcomes]
    assert seen == [1, 2, 3, 4, 5, 6]
