"""`isthmus ingest`: which files, and what is said of each."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from rich.console import Console

from cli.gateway import Gateway
from cli.ingest import ingest_all, run
from contracts.errors import Code
from rag_graph.ingest.files import File, find
from tests.unit.cli.conftest import FakeGateway


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


def test_a_name_that_is_not_utf8_fails_alone(
    gateway: Gateway, fake: FakeGateway, folder: Path
) -> None:
    (folder / "docs" / os.fsdecode(b"caf\xe9.md")).write_text("text")
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    ingest_all(Console(file=out, width=200), gateway, list(find([Path("docs")])), "default")
    out.seek(0)
    assert "failed  docs/caf?.md: Its name is not UTF-8. Rename it." in out.read()
    assert fake.uploads == ["docs/a.zip", "docs/b.md"]


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
