"""The OpenAPI document against the service: whatever is sent, no 5xx, and answers as documented."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.llm_service import ServiceProcess, running_service


def test_schemathesis(tiny_model: Path, tmp_path: Path) -> None:
    env = {"LLM_MODEL": str(tiny_model), "FAKE_TRICKS": "0", "FAKE_STEP_S": "0"}
    with running_service(tmp_path / "log", **env) as service:
        run(service, tmp_path)


def run(service: ServiceProcess, directory: Path) -> None:
    command = [str(Path(sys.executable).with_name("schemathesis")), "run"]
    options = ["--max-examples", "15", "--seed", "7", "--no-color"]
    # Rules over two fields ("stream_options only with stream") are no part of JSON Schema.
    checks = ["--exclude-checks", "positive_data_acceptance"]
    done = subprocess.run(
        [*command, f"{service.url}/openapi.json", *options, *checks],
        cwd=directory,  # it keeps a database of examples where it runs
        capture_output=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout.decode()
    assert service.readyz()[1]["restarts"] == 0
