"""A bulk run whose actors fail: every file is told of, and none is taken for stored."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from ray.exceptions import ActorDiedError, RayTaskError

from rag_graph.errors import RagError, StoreError
from rag_graph.ingest.files import File, find
from rag_graph.state import DocumentReport
from serve_app.bulk import Bulk

Outcome = DocumentReport | RagError


class Actor:
    """Answers as an actor's handle does; `fails` may raise in place of it."""

    def __init__(self, fails: Callable[[str], None] = lambda _: None) -> None:
        self.prepare = self
        self.asked: list[str] = []
        self._fails = fails

    async def remote(self, name: str, _content: bytes, _collection: str) -> Outcome:
        self.asked.append(Path(name).name)
        await asyncio.sleep(0)
        self._fails(name)
        return DocumentReport("d", name, "Title", 2, "created")


@pytest.fixture
def files(tmp_path: Path) -> list[File]:
    for i in range(20):
        (tmp_path / f"{i:02}.md").write_text("text")
    return list(find([tmp_path]))


async def run(files: Iterable[File], *actors: Actor) -> Bulk:
    bulk = Bulk(None, list(actors), "many")  # type: ignore[arg-type]  # nothing to commit
    async with asyncio.timeout(10):
        await bulk.run(files)
    return bulk


def dies(_name: str) -> None:
    raise ActorDiedError


async def test_a_dead_actor_is_asked_no_more(
    files: list[File], capsys: pytest.CaptureFixture[str]
) -> None:
    dead, well = Actor(dies), Actor()
    bulk = await run(files, dead, well)
    lost = len(dead.asked)
    assert lost <= 4
    assert bulk.counts == {"created": 20 - lost, "failed": lost}
    assert sorted(dead.asked + well.asked) == [file.path.name for file in files]
    assert bulk.chunks == 2 * (20 - lost)
    assert capsys.readouterr().out.count("The worker that prepared it is gone: The actor") == lost


async def test_without_actors_the_rest_fails_and_is_told_of(
    files: list[File], capsys: pytest.CaptureFixture[str]
) -> None:
    bulk = await run(files, Actor(dies))
    said = capsys.readouterr().out
    assert bulk.counts == {"failed": 20}
    assert all(f"{file.name}: " in said for file in files)
    assert "19.md: No worker is left to prepare it" in said


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("it broke\nbadly"), "RuntimeError: it broke badly"),
        (RayTaskError("prepare", "…", OSError("no disk")).as_instanceof_cause(), "OSError: no di"),
        (StoreError("The store is full."), "The store is full."),
    ],
)
async def test_any_other_failure_is_one_files_alone(
    files: list[File], capsys: pytest.CaptureFixture[str], error: Exception, words: str
) -> None:
    def fails(name: str) -> None:
        if name.endswith("07.md"):
            raise error

    bulk = await run(files, Actor(fails))
    assert bulk.counts == {"created": 19, "failed": 1}
    assert f"07.md: {words}" in capsys.readouterr().out


async def test_a_name_that_is_no_text_is_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.md")).write_text("text")

    def fails(name: str) -> None:
        name.encode()

    bulk = await run(find([tmp_path]), Actor(fails))
    assert bulk.counts == {"failed": 1}
    said = capsys.readouterr().out
    assert "caf\\udce9.md: UnicodeEncodeError" in said
