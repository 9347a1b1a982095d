"""The clients that README shows, run as it shows them."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.integration.serve_app.conftest import MockProcess
from tests.support.processes import ROOT
from tests.support.serve import Gateway

BLOCK = re.compile(r"^```(python|sh)\n(.+?)^```$", re.DOTALL | re.MULTILINE)
SHOWN = [
    (kind, code)
    for kind, code in BLOCK.findall((ROOT / "README.md").read_text())
    if kind == "python" or code.startswith("curl")
]
CLIENTS = {"openai", "langchain_openai", "curl", "mcp", "isthmus_client"}


def client(code: str) -> str:
    """Return which client a block of code is about."""
    imported = re.findall(r"^from (\w+) import", code, re.MULTILINE)
    return imported[0] if imported else code.split()[0]


def test_readme_shows_every_client() -> None:
    assert {client(code) for _, code in SHOWN} == CLIENTS


@pytest.mark.parametrize(("kind", "code"), SHOWN, ids=[client(code) for _, code in SHOWN])
def test_it_works_as_shown(kind: str, code: str, served: Gateway, mock: MockProcess) -> None:
    here = code.replace("http://127.0.0.1:8000", served.url)
    command = [sys.executable, "-c", here] if kind == "python" else ["bash", "-c", here]
    with mock.running():
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ}
        )
    assert done.returncode == 0, done.stderr
    streamed = "".join(re.findall(r'"content": "([^"]*)"', done.stdout))
    assert "sku=gpu:NoSchedule" in done.stdout + streamed
