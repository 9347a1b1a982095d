from __future__ import annotations

import hashlib
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from llm_backend.errors import ModelFetchError, ModelInvalidError, ModelNotFoundError
from llm_backend.models import download, fetch, origin, store
from llm_backend.models.fetch import parse_sums
from llm_backend.settings import LlmSettings
from tests.support.tiny_model import write_tiny_model

PIECE = 1000


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PIECE_BYTES", PIECE)


@pytest.fixture
def share(tmp_path: Path) -> Path:
    folder = tmp_path / "share"
    (folder / "sub").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(os.urandom(4 * PIECE + 7))
    (folder / "sub/empty").touch()
    sum_up(folder)
    return folder


def sum_up(folder: Path) -> None:
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "SHA256SUMS")
    lines = [
        f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(folder)}" for p in files
    ]
    (folder / "SHA256SUMS").write_text("\n".join(lines) + "\n")


def bring(source: Path, target: Path) -> list[tuple[int, int]]:
    """Fetch, and return what was reported."""
    said: list[tuple[int, int]] = []

    def report(have: int, total: int) -> None:
        said.append((have, total))

    fetch.fetch(origin.directory(source), target, parallel=3, report=report)
    return said


def test_a_share_is_copied_in_pieces(share: Path, tmp_path: Path) -> None:
    said = bring(share, tmp_path / "m")
    assert said[-1] == (4 * PIECE + 7, 4 * PIECE + 7)
    assert [have for have, _ in said] == sorted(have for have, _ in said)
    assert (tmp_path / "m/model.safetensors").read_bytes() == (
        share / "model.safetensors"
    ).read_bytes()
    assert (tmp_path / "m/sub/empty").exists()


def test_a_copy_is_kept_without_reading_it_again(share: Path, tmp_path: Path) -> None:
    bring(share, tmp_path / "m")
    assert bring(share, tmp_path / "m") == []


def test_a_copy_that_lost_a_file_gets_it_back(share: Path, tmp_path: Path) -> None:
    bring(share, tmp_path / "m")
    (tmp_path / "m/model.safetensors").unlink()
    bring(share, tmp_path / "m")
    assert (tmp_path / "m/model.safetensors").exists()


def test_pieces_of_another_version_do_not_count(share: Path, tmp_path: Path) -> None:
    class EndedError(Exception):
        pass

    def end(have: int, _total: int) -> None:
        if have >= 2 * PIECE:
            raise EndedError

    where = origin.directory(share)
    with pytest.raises(EndedError):
        fetch.fetch(where, tmp_path / "m", parallel=1, report=end)
    partial = tmp_path / ".m.partial"
    weights = partial / "model.safetensors"
    assert download.Journal(weights, where.stat("model.safetensors")).done >= {0, 1}
    (share / "model.safetensors").touch()
    assert download.Journal(
        partial / "model.safetensors", where.stat("model.safetensors")
    ).done == (set())


def test_a_piece_that_rotted_on_disk_is_fetched_again(share: Path, tmp_path: Path) -> None:
    where, partial = origin.directory(share), tmp_path / ".m.partial"
    partial.mkdir()
    (partial / "SHA256SUMS").write_bytes((share / "SHA256SUMS").read_bytes())
    file = partial / "model.safetensors"
    journal = download.Journal(file, where.stat("model.safetensors"))
    file.write_bytes(b"?" * (4 * PIECE + 7))
    journal.note(0)
    bring(share, tmp_path / "m")
    assert (tmp_path / "m/model.safetensors").read_bytes() == (
        share / "model.safetensors"
    ).read_bytes()


def test_a_torn_note_does_not_count(tmp_path: Path) -> None:
    file, stat = tmp_path / "f", origin.Stat(20 * PIECE, "tag")
    download.Journal(file, stat).note(3)
    with (tmp_path / "f.pieces").open("a") as notes:
        notes.write("1")  # of 12
    assert download.Journal(file, stat).done == {3}


def test_a_broken_origin_is_refused_by_name(share: Path, tmp_path: Path) -> None:
    (share / "model.safetensors").write_bytes(b"rot")
    with pytest.raises(ModelInvalidError, match=r"share/model\.safetensors does not match"):
        bring(share, tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_new_version_takes_over_what_did_not_change(share: Path, tmp_path: Path) -> None:
    bring(share, tmp_path / "m")
    before = (tmp_path / "m/model.safetensors").stat().st_ino
    (share / "sub/empty").write_text("no longer")
    sum_up(share)
    assert bring(share, tmp_path / "m")[-1] == (9, 9)
    assert (tmp_path / "m/sub/empty").read_text() == "no longer"
    assert (tmp_path / "m/model.safetensors").stat().st_ino == before
    assert {p.name for p in tmp_path.iterdir()} == {"share", "m", ".m.lock"}


def test_a_file_in_the_list_that_is_not_there_is_named(share: Path, tmp_path: Path) -> None:
    (share / "sub/empty").unlink()
    with pytest.raises(ModelNotFoundError, match=r"There is no .*sub/empty"):
        bring(share, tmp_path / "m")


def test_without_a_list_nothing_is_fetched(share: Path, tmp_path: Path) -> None:
    (share / "SHA256SUMS").unlink()
    with pytest.raises(ModelNotFoundError, match=r"sha256sum \* > SHA256SUMS"):
        bring(share, tmp_path / "m")


def test_a_disk_without_room_is_said(
    share: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda _path: SimpleNamespace(free=10))
    with pytest.raises(ModelFetchError, match=r"GiB more, but .* has 0\.0 GiB left"):
        bring(share, tmp_path / "m")


def test_a_target_that_cannot_be_written_is_said(share: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelFetchError, match="Cannot write the model"):
        bring(share, tmp_path / "file/m")


@pytest.mark.parametrize("line", ["", "x", f"{'0' * 64}  ../etc", f"{'0' * 64}  /etc", "0  name"])
def test_a_list_that_is_none_is_refused(line: str) -> None:
    with pytest.raises(ModelInvalidError, match="Make it anew"):
        parse_sums(line.encode(), "az://c/m")


def test_pickles_are_left_out() -> None:
    lines = f"{'0' * 64} *./a.safetensors\n{'1' * 64}  pytorch_model.bin\n"
    assert parse_sums(lines.encode(), "az://c/m") == {"a.safetensors": "0" * 64}


def test_a_directory_is_cached_on_request(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "mounted/tiny")
    sum_up(model)
    settings = LlmSettings(model=str(model), cache_model=True, cache_dir=tmp_path / "cache")
    phases: list[str] = []
    found = store.resolve(settings, lambda phase, _percent: phases.append(phase))
    assert found.parent == tmp_path / "cache/models"
    assert (found / "model.safetensors").exists()
    assert set(phases) == {"fetching the model"}


def test_azure_needs_a_container_and_a_prefix() -> None:
    with pytest.raises(Exception, match="az://CONTAINER/PREFIX"):
        store.check(LlmSettings(model="az://models"))
