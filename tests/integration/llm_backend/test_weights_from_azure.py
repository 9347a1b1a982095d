"""`az://` weights against Azurite: a real server, real processes that are killed half-way."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import obstore
import pytest
from obstore.store import AzureStore
from safetensors.numpy import save_file

from llm_backend.models.download import PIECE_BYTES
from tests.support.azurite import ACCOUNT, KEY, Azurite, running_azurite, sas_token
from tests.support.llm_service import running_service
from tests.support.processes import ROOT, free_port
from tests.support.tap import Tap
from tests.support.tiny_model import write_tiny_model

pytestmark = pytest.mark.timeout(600)  # the first test installs Azurite

CONTAINER = "models"
PIECES = 5


@dataclass(frozen=True)
class Uploaded:
    """A model on the emulator."""

    azurite: Azurite
    store: AzureStore
    folder: Path
    size: int

    def put(self, prefix: str, *names: str) -> str:
        """Upload the model, or some files of it, under another prefix; return its URL."""
        for name in names or [p.name for p in self.folder.iterdir()]:
            obstore.put(self.store, f"{prefix}/{name}", self.folder / name)
        return f"az://{CONTAINER}/{prefix}"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Uploaded]:
    folder = write_tiny_model(tmp_path_factory.mktemp("model") / "tiny")
    weights = np.frombuffer(np.random.default_rng(0).bytes(PIECES * PIECE_BYTES - 999), np.uint8)
    save_file({"w": weights}, folder / "model.safetensors")
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    _sum(folder)
    size = (folder / "model.safetensors").stat().st_size
    with running_azurite(tmp_path_factory.mktemp("azurite")) as azurite:
        azurite.make_container(CONTAINER)
        endpoint = azurite.credentials["AZURE_ENDPOINT"]
        store = AzureStore(
            CONTAINER,
            account_name=ACCOUNT,
            account_key=KEY,
            endpoint=endpoint,
            client_options={"allow_http": True},
        )
        uploaded = Uploaded(azurite, store, folder, size)
        uploaded.put("tiny")
        yield uploaded


def _sum(folder: Path) -> None:
    files = sorted(p for p in folder.iterdir() if p.name != "SHA256SUMS")
    lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\n" for p in files]
    (folder / "SHA256SUMS").write_text("".join(lines))


def start(target: Path, url: str, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "llm_backend.models.fetch", url, str(target)],
        env={**os.environ, "LLM_FETCH_TIMEOUT_S": "1", **env},
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def run(target: Path, url: str = f"az://{CONTAINER}/tiny", **env: str) -> tuple[int, str]:
    process = start(target, url, **env)
    out, err = process.communicate(timeout=60)
    return process.returncode, out + err


def through(tap: Tap) -> dict[str, str]:
    return Azurite.place(tap.port) | {"AZURE_STORAGE_ACCOUNT_KEY": KEY}


def is_whole(target: Path, model: Uploaded) -> bool:
    return (target / "model.safetensors").read_bytes() == (
        model.folder / "model.safetensors"
    ).read_bytes()


@pytest.mark.parametrize("by", ["key", "sas"])
def test_a_model_is_fetched_and_checked(model: Uploaded, tmp_path: Path, by: str) -> None:
    token = {"AZURE_STORAGE_SAS_TOKEN": sas_token(CONTAINER)}
    given = model.azurite.credentials if by == "key" else Azurite.place(model.azurite.port) | token
    code, said = run(tmp_path / "m", **given)
    assert code == 0, said
    assert is_whole(tmp_path / "m", model)
    assert not (tmp_path / "m/pytorch_model.bin").exists()


def test_a_killed_fetch_goes_on_where_it_was(model: Uploaded, tmp_path: Path) -> None:
    journal = tmp_path / ".m.partial/model.safetensors.pieces"
    with Tap(model.azurite.port, limit=(PIECES - 1) * PIECE_BYTES) as tap:
        env = through(tap) | {"LLM_FETCH_PARALLEL": "1"}
        with start(tmp_path / "m", f"az://{CONTAINER}/tiny", **env) as process:
            assert tap.full.wait(60)
            process.kill()
    brought = (len(journal.read_text().splitlines()) - 1) * PIECE_BYTES
    assert brought >= 2 * PIECE_BYTES
    assert not (tmp_path / "m").exists()
    with Tap(model.azurite.port) as tap:
        assert run(tmp_path / "m", **through(tap))[0] == 0
        assert tap.passed < model.size - brought + PIECE_BYTES
    assert is_whole(tmp_path / "m", model)


def test_of_two_processes_one_fetches(model: Uploaded, tmp_path: Path) -> None:
    with Tap(model.azurite.port) as tap:
        both = [start(tmp_path / "m", f"az://{CONTAINER}/tiny", **through(tap)) for _ in "12"]
        assert [p.communicate(timeout=60) and p.returncode for p in both] == [0, 0]
        assert tap.passed < model.size + PIECE_BYTES
    assert is_whole(tmp_path / "m", model)


def test_a_corrupted_blob_is_refused_by_name(model: Uploaded, tmp_path: Path) -> None:
    url = model.put("rotten")
    obstore.put(model.store, "rotten/model.safetensors", b"x" * model.size)
    code, said = run(tmp_path / "m", url, **model.azurite.credentials)
    assert code == 4
    assert f"{url}/model.safetensors does not match its checksum" in said
    assert "Traceback" not in said
    assert not (tmp_path / "m").exists()
    model.put("rotten", "model.safetensors")  # once it is mended, only that file is fetched
    with Tap(model.azurite.port) as tap:
        assert run(tmp_path / "m", url, **through(tap))[0] == 0
        assert tap.passed < model.size + PIECE_BYTES


def test_a_new_version_replaces_the_copy_and_fetches_what_changed(
    model: Uploaded, tmp_path: Path
) -> None:
    url = model.put("versions")
    assert run(tmp_path / "m", url, **model.azurite.credentials)[0] == 0
    config = b'{"model_type": "llama", "note": "new"}'
    sums = (model.folder / "SHA256SUMS").read_text().splitlines()
    kept = [line for line in sums if not line.endswith("  config.json")]
    sums = [*kept, f"{hashlib.sha256(config).hexdigest()}  config.json"]
    obstore.put(model.store, "versions/config.json", config)
    obstore.put(model.store, "versions/SHA256SUMS", "\n".join(sums).encode())
    with Tap(model.azurite.port) as tap:
        assert run(tmp_path / "m", url, **through(tap))[0] == 0
        assert tap.passed < PIECE_BYTES
    assert (tmp_path / "m/config.json").read_bytes() == config
    assert is_whole(tmp_path / "m", model)


@pytest.mark.parametrize(
    ("url", "env", "code", "words"),
    [
        ("az://models/nothing", {}, 3, "There is no az://models/nothing/SHA256SUMS"),
        ("az://models", {}, 2, "does not have the form az://CONTAINER/PREFIX"),
        ("az://models/tiny", {"AZURE_STORAGE_ACCOUNT_KEY": "c2VjcmV0"}, 8, "is not allowed"),
    ],
)
def test_what_cannot_be_read_is_said(
    model: Uploaded, tmp_path: Path, url: str, env: dict[str, str], code: int, words: str
) -> None:
    got, said = run(tmp_path / "m", url, **(model.azurite.credentials | env))
    assert (got, words in said) == (code, True), said
    assert "Traceback" not in said
    assert "c2VjcmV0" not in said


def test_a_missing_account_is_named(tmp_path: Path) -> None:
    code, said = run(tmp_path / "m")
    assert code == 2
    assert "Name the account in AZURE_STORAGE_ACCOUNT_NAME" in said


def test_a_storage_that_is_away_is_said_and_a_copy_is_served_meanwhile(
    model: Uploaded, tmp_path: Path
) -> None:
    away = Azurite.place(free_port()) | {"AZURE_STORAGE_ACCOUNT_KEY": KEY}
    code, said = run(tmp_path / "m", **away)
    assert code == 8
    assert "Cannot read az://models/tiny/SHA256SUMS" in said
    assert run(tmp_path / "m", **model.azurite.credentials)[0] == 0
    code, said = run(tmp_path / "m", **away)
    assert code == 0
    assert "without asking for a newer one" in said


def test_the_service_fetches_its_model(model: Uploaded, tmp_path: Path) -> None:
    env = model.azurite.credentials | {"LLM_MODEL": f"az://{CONTAINER}/tiny"}
    with running_service(tmp_path / "log", LLM_CACHE_DIR=str(tmp_path), **env) as service:
        assert service.model == "tiny"
    (copy,) = (tmp_path / "models").glob("tiny-*")
    assert is_whole(copy, model)


def test_a_service_that_is_told_to_end_does_not_finish_the_fetch(
    model: Uploaded, tmp_path: Path
) -> None:
    with Tap(model.azurite.port, limit=3 * PIECE_BYTES) as tap:
        port = free_port()
        env = through(tap) | {"LLM_MODEL": f"az://{CONTAINER}/tiny", "LLM_PORT": str(port)}
        env |= {"LLM_CACHE_DIR": str(tmp_path), "LLM_FETCH_TIMEOUT_S": "3"}
        process = subprocess.Popen(
            [sys.executable, "-m", "llm_backend.inference_server"],
            env={**os.environ, **env},
            cwd=ROOT,
            stderr=subprocess.PIPE,
        )
        assert tap.full.wait(60)
        process.terminate()
    _, said = process.communicate(timeout=30)
    assert process.returncode == 0, said
    assert not list((tmp_path / "models").glob("tiny-*"))
