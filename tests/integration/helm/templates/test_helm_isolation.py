from __future__ import annotations

import socket
import subprocess
import sys

from tests.support import chart


def test_it_fails_when_it_gets_through() -> None:
    """The pod's script, run here against an open port and a shut one."""
    script = _script()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        reached = _run(script, port)
    shut = _run(script, port)
    assert reached.returncode == 1
    assert "enforces no policy" in reached.stderr
    assert shut.returncode == 0
    assert "as it should be" in shut.stdout


def test_an_external_service_is_not_tested() -> None:
    assert "isthmus-test-isolation" not in chart.objects(chart.rendered("dev"), "Pod")


def _script() -> str:
    pod = chart.one(chart.rendered("prod"), "Pod", "isthmus-test-isolation")
    script: str = pod["spec"]["containers"][0]["args"][0]
    return script


def _run(script: str, port: int) -> subprocess.CompletedProcess[str]:
    local = script.replace("'isthmus-llm', 8001", f"'127.0.0.1', {port}")
    command = [sys.executable, "-c", local]
    return subprocess.run(command, capture_output=True, text=True, check=False)
