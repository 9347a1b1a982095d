"""A gateway that lives in a function: the commands' HTTP without a network."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
import pytest

from cli.gateway import Gateway
from contracts import errors, sse
from contracts.errors import Code

CITATION = {
    "number": 1,
    "document_id": "d1",
    "title": "Pools",
    "source": "docs/pools.md",
    "page": 3,
    "heading": "Taints",
    "quote": "The taint is sku=gpu.",
}


JOB = {
    "id": "j1",
    "status": "done",
    "result": "created",
    "chunks_done": 2,
    "chunks_total": 2,
    "eta_s": None,
    "error": None,
}


@dataclass
class FakeGateway:
    """Answers as the gateway does; a test sets what should go wrong."""

    pieces: tuple[str, ...] = ("The taint ", "is [b]sku=gpu[/b]. [1]")
    refusals: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By path or uploaded file name: the code and message of an error."""
    passages: list[dict[str, object]] = field(default_factory=list)
    breaks_off: bool = False
    info: dict[str, object] = field(default_factory=dict)
    """How the answer came about."""
    uploads: list[str] = field(default_factory=list)
    asked: list[dict[str, object]] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == "Bearer secret"
        path = request.url.path
        if path in self.refusals:
            return self._refuse(*self.refusals[path])
        if path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": "isthmus"}]})
        if path == "/v1/documents":
            return self._upload(request)
        self.asked.append(json.loads(request.content))
        return httpx.Response(200, content=self._stream())

    def _upload(self, request: httpx.Request) -> httpx.Response:
        name = request.read().decode().partition('filename="')[2].partition('"')[0]
        if name in self.refusals:
            return self._refuse(*self.refusals[name])
        self.uploads.append(name)
        return httpx.Response(200, json={**JOB, "name": name})

    def _refuse(self, code: str, message: str) -> httpx.Response:
        body = errors.envelope(code, message).model_dump() | {"passages": self.passages}
        return httpx.Response(errors.STATUS[code], json=body)

    def _stream(self) -> bytes:
        chunks = [{"id": "chatcmpl-1", "choices": [{"delta": {"content": p}}]} for p in self.pieces]
        frames = b"".join(sse.encode(json.dumps(chunk)) for chunk in chunks)
        if self.breaks_off:
            frames += sse.encode(errors.envelope(Code.UPSTREAM_ERROR, "Broke.").model_dump_json())
        end = {"delta": {}, "finish_reason": "stop"}
        last = {"id": "chatcmpl-1", "choices": [end], "citations": [CITATION]}
        return frames + sse.encode(json.dumps(last | {"isthmus": self.info})) + sse.DONE_FRAME


@pytest.fixture
def fake() -> FakeGateway:
    return FakeGateway()


@pytest.fixture
def gateway(fake: FakeGateway) -> Gateway:
    transport: Callable[[httpx.Request], httpx.Response] = fake
    return Gateway("http://gateway", "secret", httpx.MockTransport(transport))
