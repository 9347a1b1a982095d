"""The command's own client: what it does when the gateway has no room."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from cli import gateway as module
from cli.gateway import Gateway
from tests.unit.cli.conftest import JOB


@pytest.mark.parametrize(
    ("said", "paused"),
    [("7", 7.0), ("3600", 30.0), ("Tue, 24 Nov 2026 23:20:00 GMT", 1.0), (None, 1.0)],
)
def test_a_full_gateway_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str | None, paused: float
) -> None:
    (tmp_path / "a.md").write_text("text")
    refused = httpx.Response(503, headers={} if said is None else {"retry-after": said})
    answers, pauses = iter([refused, httpx.Response(202, json=JOB)]), list[float]()
    monkeypatch.setattr(module.time, "sleep", pauses.append)
    transport = httpx.MockTransport(lambda _: next(answers))
    with Gateway("http://gateway", transport=transport) as one:
        assert one.add_document("a.md", tmp_path / "a.md", "default") == JOB
    assert pauses == [paused]
