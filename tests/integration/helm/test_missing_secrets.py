"""Against a cluster, the chart looks whether the Secrets that it names are there."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support import chart, fake_kube, tools

_CORE = [("namespaces", "Namespace", False), ("secrets", "Secret", True)]
_DISCOVERY: dict[str, Any] = {
    "/version": {"major": "1", "minor": "34", "gitVersion": "v1.34.0"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": {
        "kind": "APIResourceList",
        "groupVersion": "v1",
        "resources": [
            {"name": n, "singularName": "", "namespaced": ns, "kind": k, "verbs": ["get", "list"]}
            for n, k, ns in _CORE
        ],
    },
}


ALL = {
    "isthmus-redis",
    "isthmus-redis-url",
    "isthmus-memory",
    "isthmus-llm-key",
    "isthmus-api-keys",
}
"""The Secrets that values-prod.yaml names."""


class _Handler(BaseHTTPRequestHandler):
    secrets: set[str]

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        answer = _DISCOVERY.get(path) or self._object(path)
        code = 200 if answer else 404
        body = json.dumps(answer or {"kind": "Status", "code": 404, "reason": "NotFound"}).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _object(self, path: str) -> dict[str, Any] | None:
        kind, name = ("Secret" if "/secrets/" in path else "Namespace"), path.rpartition("/")[2]
        if kind == "Secret" and name not in self.secrets:
            return None
        return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}}

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


@pytest.fixture
def render(tmp_path: Path) -> Iterator[Any]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    config = fake_kube.kubeconfig(tmp_path / "config", f"http://127.0.0.1:{server.server_port}")
    environment = {**os.environ, "KUBECONFIG": str(config), "HOME": str(tmp_path)}

    def run(*secrets: str, major: int = 4, more: str = "") -> subprocess.CompletedProcess[str]:
        _Handler.secrets = set(secrets)
        command = [str(tools.helm(major)), "template", "isthmus", ".", "--dry-run=server"]
        command += ["--namespace", "rag", "--values", "values-prod.yaml", "--set", more]
        return subprocess.run(
            command, cwd=chart.CHART, env=environment, capture_output=True, text=True, check=False
        )

    yield run
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("major", [3, 4])
def test_a_missing_secret_is_named(render: Any, major: int) -> None:
    result = render(*ALL - {"isthmus-llm-key"}, major=major)
    assert result.returncode != 0
    words = 'The Secret "isthmus-llm-key" named by llm.apiKeySecret is not in namespace rag'
    assert words in " ".join(result.stderr.split())


def test_with_all_secrets_the_templates_pass(render: Any) -> None:
    """Helm then goes on to what this small server does not have: the kinds' schemas."""
    result = render(*ALL)
    assert "unable to build kubernetes objects" in result.stderr
    assert "named by" not in result.stderr


def test_a_missing_secret_in_a_list_is_named_too(render: Any) -> None:
    result = render(*ALL, more="serve.existingSecrets={gone}")
    assert 'The Secret "gone" named by serve.existingSecrets[0]' in " ".join(result.stderr.split())
