"""The mock LLM on a real socket, in the test's own event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import uvicorn

from contracts.mock_llm import MockLLM, MockSettings
from tests.support.processes import free_port, wait_for


@asynccontextmanager
async def serve(**settings: Any) -> AsyncIterator[tuple[MockLLM, httpx.AsyncClient]]:
    """Run a mock on a real socket and yield it with a client of it."""
    mock = MockLLM(MockSettings(**settings))
    config = uvicorn.Config(mock, port=free_port(), log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    await asyncio.to_thread(wait_for, lambda: server.started, 10, "the mock listens")
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{config.port}") as client:
            yield mock, client
    finally:
        server.should_exit = server.force_exit = True
        await task
