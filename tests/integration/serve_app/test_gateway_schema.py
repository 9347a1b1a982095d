"""Whatever is sent to the gateway: no 5xx, and answers as its OpenAPI document says.

The routes over fakes, on a real socket; Ray has no part in this.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn

from serve_app.api import create_api
from serve_app.auth import Keys
from serve_app.services import Services
from serve_app.settings import ServeSettings
from tests.support.processes import free_port, wait_for
from tests.unit.serve_app.conftest import Fakes


@asynccontextmanager
async def gateway() -> AsyncIterator[str]:
    fakes = Fakes()
    services = Services(**{**vars(fakes.services(Keys(()))), "serve": ServeSettings()})
    config = uvicorn.Config(create_api(services), port=free_port(), log_level="error")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    await asyncio.to_thread(wait_for, lambda: server.started, 10, "the gateway listens")
    try:
        yield f"http://127.0.0.1:{config.port}"
    finally:
        server.should_exit = True
        await task
        await fakes.memory.aclose()


async def test_schemathesis(tmp_path: Path) -> None:
    async with gateway() as url:
        done = await asyncio.to_thread(run_schemathesis, url, tmp_path)
    assert done.returncode == 0, done.stdout.decode()


def run_schemathesis(url: str, directory: Path) -> subprocess.CompletedProcess[bytes]:
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{url}/openapi.json"]
    options = ["--max-examples", "12", "--seed", "7", "--no-color"]
    # Rules over two fields ("thread_id without earlier turns") are no part of JSON Schema; numbers
    # in quotes are taken as numbers; DELETE /v1/chat/completions/{answer_id} also takes "events".
    checks = "positive_data_acceptance,negative_data_rejection,allow_header_conformance"
    options += ["--exclude-checks", checks]
    return subprocess.run(
        [*command, *options], cwd=directory, capture_output=True, timeout=240, check=False
    )
