"""`isthmus collections` over the gateway's own routes and a library in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import uvicorn
from typer.testing import CliRunner

from cli.main import app
from serve_app.api import create_api
from serve_app.auth import Keys
from tests.support.processes import free_port, wait_for
from tests.unit.serve_app.conftest import Fakes


@pytest.fixture(scope="module")
def fakes() -> Fakes:
    return Fakes()


@pytest.fixture(scope="module")
def url(fakes: Fakes) -> Iterator[str]:
    config = uvicorn.Config(create_api(fakes.services(Keys(()))), port=free_port(), log_level=50)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_for(lambda: server.started, 10, "the gateway listens")
    yield f"http://127.0.0.1:{config.port}"
    server.should_exit = True
    thread.join()


def run(url: str, *words: str) -> str:
    done = CliRunner().invoke(app, ["collections", *words], env={"ISTHMUS_URL": url})
    assert done.exit_code == 0, done.output
    return done.output


def test_collections_are_listed_made_and_deleted(url: str, fakes: Fakes) -> None:
    assert "chunks of 200 tokens" in run(url, "create", "notes")
    assert "notes" in run(url, "list")
    assert "notes is gone" in run(url, "delete", "notes", "--yes")
    assert "notes" not in fakes.library.names


def test_documents_are_listed_over_all_pages_and_removed(
    url: str, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.collections.PAGE", 2)
    assert [line.split()[-1] for line in run(url, "documents", "default").splitlines()] == [
        "a.md",
        "b.md",
        "c.md",
    ]
    run(url, "remove", "default", "a")
    assert fakes.library.deleted == ["default/a"]


def test_an_embedder_is_changed_and_gone_back_from(url: str) -> None:
    assert "default is embedded by new: done." in run(url, "embed", "default", "new")
    assert "the earlier one: done." in run(url, "rollback", "default")
