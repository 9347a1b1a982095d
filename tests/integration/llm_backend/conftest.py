"""One service over fake ranks for all tests that only talk to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.llm_service import ServiceProcess, running_service
from tests.support.tiny_model import write_tiny_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def service(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    log = tmp_path_factory.mktemp("service") / "log"
    with running_service(
        log,
        LLM_MODEL=str(tiny_model),
        LLM_TENSOR_PARALLEL="2",
        LLM_MAX_BODY_BYTES="100000",
        LLM_STREAM_BUFFER_TOKENS="64",
    ) as running:
        yield running
