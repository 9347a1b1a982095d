"""Each check of `isthmus doctor`, well and ill."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from cli import doctor
from cli.doctor import GIB, Finding


@pytest.mark.parametrize(
    ("well", "ill"),
    [
        (doctor.python((3, 11, 0)), doctor.python((3, 10, 9))),
        (doctor.disk(Path(), lambda _: 50 * GIB), doctor.disk(Path(), lambda _: GIB)),
        (doctor.memory(20 * GIB), doctor.memory(GIB)),
        (doctor.packages("P", "serve", ("json",)), doctor.packages("P", "serve", ("no_such",))),
        (doctor.bundle("B", "json", "json"), doctor.bundle("B", "no_such", "no-such")),
        (doctor.mpirun({"LLM_MPIRUN": "sh"}), doctor.mpirun({"LLM_MPIRUN": "/no/mpirun"})),
        (doctor.refused_settings("Gateway"), None),
    ],
)
def test_what_is_wrong_comes_with_how_to_mend_it(well: Finding, ill: Finding | None) -> None:
    assert (well.state, well.mend) == ("ok", "")
    if ill is not None:
        assert ill.state in {"warning", "failed"}
        assert ill.mend.endswith((".", '"', "no-such"))


def test_a_taken_port_is_found() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        found = doctor.port("SERVE_PORT", "127.0.0.1", number)
    assert found.state == "failed"
    assert "SERVE_PORT" in found.mend
    assert doctor.port("SERVE_PORT", "127.0.0.1", number).state == "ok"


def test_a_refused_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVE_PORT", "many")
    found = doctor.refused_settings("Gateway")
    assert found.state == "failed"
    assert found.detail.startswith("SERVE_PORT: ")


def test_a_model_directory_needs_its_config(tmp_path: Path) -> None:
    assert doctor.model({"LLM_MODEL": str(tmp_path)}).state == "failed"
    (tmp_path / "config.json").write_text("{}")
    assert doctor.model({"LLM_MODEL": str(tmp_path)}).state == "ok"
