from __future__ import annotations

import asyncio
import json
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from llm_backend.api.dispatcher import Dispatcher
from llm_backend.api.edge import Edge
from llm_backend.api.service import Service
from llm_backend.runtime.supervisor import Supervisor
from llm_backend.settings import LlmSettings


async def test_a_body_that_stops_coming_is_refused() -> None:
    settings = LlmSettings(send_timeout_s=0.05)
    service = Service(settings, Dispatcher(settings), cast("Supervisor", None))
    parts: list[Message] = [{"type": "http.request", "body": b"{", "more_body": True}]
    sent: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Request(scope, receive).body()
        await Response()(scope, receive, send)

    async def receive() -> Message:
        if not parts:
            await asyncio.Event().wait()
        return parts.pop()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/completions", "headers": []}
    await Edge(app, service)(scope, receive, send)
    assert sent[0]["status"] == 400
    assert "0.05 s" in json.loads(sent[1]["body"])["error"]["message"]
