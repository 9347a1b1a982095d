"""One gateway for the whole folder: starting Ray takes its seconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.support.page import CHROMIUM
from tests.support.processes import free_port, running
from tests.support.serve import Gateway, gateway

POOLS = (
    "# Node pools\n\nThe GPU node pools carry the taint sku=gpu:NoSchedule.\n\n"
    "# Storage\n\nModel weights live on Azure Files.\n"
)


@dataclass(frozen=True)
class MockProcess:
    """Where the mock LLM of these tests listens; a test starts it as it needs it."""

    port: int
    directory: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def running(self, **settings: object) -> Iterator[None]:
        """Run the mock, with `settings` of `MockSettings`, until the block ends."""
        options = [f"--{name}={value}" for name, value in settings.items()]
        with running(
            ["-m", "contracts.mock_llm", "--port", str(self.port), *options],
            ready_url=f"{self.url}/readyz",
            log=self.directory / "mock.log",
        ):
            yield

    def generating(self) -> float:
        """Return how many answers it is generating now."""
        for line in httpx.get(f"{self.url}/metrics").text.splitlines():
            if line.startswith("isthmus_llm_requests_running "):
                return float(line.split()[1])
        raise AssertionError("the mock does not report what it is running")


@pytest.fixture(scope="session")
def mock(tmp_path_factory: pytest.TempPathFactory) -> MockProcess:
    return MockProcess(free_port(), tmp_path_factory.mktemp("mock"))


@pytest.fixture(scope="session")
def served(mock: MockProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway whose LLM is `mock`, with one document in it."""
    with gateway(tmp_path_factory.mktemp("gateway"), RAG_LLM_URL=mock.url) as started:
        with started.http() as http:
            added = http.post("/v1/documents?wait=60", files={"file": ("pools.md", POOLS)})
            assert added.json()["status"] == "done", added.text
        yield started


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()
