"""The command's own client: what it does when the gateway has no room."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from cli.errors import GatewayError
from cli.gateway import AbsentError, Gateway, LostError, RefusedError, SilentError
from contracts import sse
from contracts.errors import Code, envelope
from tests.unit.cli.conftest import JOB


class Broken(httpx.SyncByteStream):
    """A stream of jobs that breaks off after these."""

    def __init__(self, *jobs: dict[str, object]) -> None:
        self._jobs = jobs

    def __iter__(self) -> Iterator[bytes]:
        yield from (sse.encode(json.dumps(job)) for job in self._jobs)
        raise httpx.ReadError("reset by peer")


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were slept, which take no time."""
    slept: list[float] = []
    monkeypatch.setattr("cli.gateway.time.sleep", slept.append)
    return slept


def answering(*answers: httpx.Response | Exception) -> Gateway:
    """Return a client of a gateway that gives these answers, and the last of them ever after."""
    left = list(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        request.read()
        given = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(given, Exception):
            raise given
        return given

    return Gateway("http://gateway", transport=httpx.MockTransport(answer))


@pytest.mark.parametrize(
    ("said", "paused"),
    [("7", 7.0), ("3600", 30.0), ("Tue, 24 Nov 2026 23:20:00 GMT", 1.0), (None, 1.0)],
)
def test_a_full_gateway_is_waited_for(
    tmp_path: Path, pauses: list[float], said: str | None, paused: float
) -> None:
    (tmp_path / "a.md").write_text("text")
    refused = httpx.Response(503, headers={} if said is None else {"retry-after": said})
    with answering(refused, httpx.Response(202, json=JOB)) as one:
        assert one.add_document("a.md", tmp_path / "a.md", "default") == JOB
    assert pauses == [paused]


def test_an_upload_that_broke_off_is_sent_again(tmp_path: Path, pauses: list[float]) -> None:
    (tmp_path / "a.md").write_text("text")
    breaks = httpx.ReadError("reset by peer"), httpx.ConnectError("refused")
    with answering(*breaks, httpx.Response(202, json=JOB)) as one:
        assert one.add_document("a.md", tmp_path / "a.md", "default") == JOB
    assert pauses == [0.5, 1.0]


@pytest.mark.parametrize(
    ("failure", "kind", "tries"),
    [
        (httpx.ReadError("reset by peer"), LostError, 4),
        (httpx.ConnectError("refused"), AbsentError, 4),
        (httpx.ConnectTimeout("no route"), AbsentError, 4),
        (httpx.ReadTimeout("silence"), SilentError, 1),
    ],
)
def test_an_upload_is_given_up_after_a_few_breaks(
    tmp_path: Path, pauses: list[float], failure: Exception, kind: type[GatewayError], tries: int
) -> None:
    (tmp_path / "a.md").write_text("text")
    with answering(failure) as one, pytest.raises(kind) as raised:
        one.add_document("a.md", tmp_path / "a.md", "default")
    assert type(raised.value) is kind
    assert len(pauses) == tries - 1


def test_a_job_whose_stream_broke_off_is_followed_on(pauses: list[float]) -> None:
    working = [{**JOB, "status": "embedding", "chunks_done": done} for done in range(5)]
    broken = [httpx.Response(200, stream=Broken(job)) for job in working]
    whole = httpx.Response(200, content=sse.encode(json.dumps(JOB)))
    with answering(*broken, whole) as one:
        assert list(one.follow("j1")) == [*working, JOB]
    assert pauses == [0.5] * 5


def test_a_job_that_does_not_go_on_is_given_up(pauses: list[float]) -> None:
    frame = sse.encode(json.dumps({**JOB, "status": "embedding"}))
    answers = [httpx.Response(200, content=frame) for _ in range(4)]
    with answering(*answers, httpx.Response(200)) as one, pytest.raises(LostError):
        list(one.follow("j1"))
    assert pauses == [0.5, 1.0, 2.0]


def test_what_somebody_has_to_look_after_is_not_waited_for(
    tmp_path: Path, pauses: list[float]
) -> None:
    (tmp_path / "a.md").write_text("text")
    full = envelope(Code.UNAVAILABLE, "The disk is full.").model_dump()
    refused = httpx.Response(503, json=full, headers={"retry-after": "1"})
    with answering(refused) as one, pytest.raises(RefusedError, match="The disk is full"):
        one.add_document("a.md", tmp_path / "a.md", "default")
    assert pauses == []


def test_a_job_is_followed_over_a_restart(pauses: list[float]) -> None:
    working = sse.encode(json.dumps({**JOB, "status": "embedding"}))
    starting = envelope(Code.NOT_READY, "The ingestor is starting.").model_dump_json()
    answers = (
        httpx.Response(200, content=working + sse.encode(starting)),
        httpx.Response(503, text="<html>No server is available.</html>"),
        httpx.Response(200, content=sse.encode(json.dumps(JOB))),
    )
    with answering(*answers) as one:
        assert [job["status"] for job in one.follow("j1")] == ["embedding", "done"]
    assert pauses == [2.0, 2.0]


def test_a_job_that_there_is_not_is_not_waited_for() -> None:
    absent = envelope(Code.NOT_FOUND, "There is no job 'j1'.").model_dump()
    with answering(httpx.Response(404, json=absent)) as one, pytest.raises(RefusedError):
        list(one.follow("j1"))


def test_a_job_that_cannot_be_followed_is_given_up(pauses: list[float]) -> None:
    with answering(httpx.ReadError("reset by peer")) as one, pytest.raises(LostError):
        list(one.follow("j1"))
    assert pauses == [0.5, 1.0, 2.0]
