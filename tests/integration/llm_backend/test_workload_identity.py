"""A pod's token is exchanged for Azure's, by the variables that AKS puts into a pod."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from llm_backend.models.fetch import main

CONTENT = b"weights"
SUMS = f"{hashlib.sha256(CONTENT).hexdigest()}  model.safetensors\n".encode()
BLOBS = {"/models/m/SHA256SUMS": SUMS, "/models/m/model.safetensors": CONTENT}


class _Azure(BaseHTTPRequestHandler):
    """Entra ID's token endpoint, and a storage account that takes its tokens only."""

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        known = self.path == "/tenant/oauth2/v2.0/token" and form["client_id"] == ["client"]
        granted = known and form["client_assertion"] == ["the pod's token"]
        token = {"access_token": "granted", "token_type": "Bearer", "expires_in": 3600}
        self._answer(200 if granted else 401, json.dumps(token).encode())

    def do_GET(self) -> None:
        if self.headers["Authorization"] != "Bearer granted":
            return self._answer(403, b"")
        first, last = (self.headers["Range"] or "bytes=0-").removeprefix("bytes=").split("-")
        whole = BLOBS[self.path]
        part = whole[int(first) : int(last or len(whole)) + 1]
        code = 206 if self.headers["Range"] else 200
        return self._answer(code, part, f"bytes {first}-{int(first) + len(part) - 1}/{len(whole)}")

    do_HEAD = do_GET  # noqa: N815 - http.server calls it so

    def _answer(self, code: int, body: bytes, content_range: str = "") -> None:
        self.send_response(code)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "ETag": '"1"',
            "Last-Modified": "Tue, 24 Nov 2026 00:00:00 GMT",
            "Content-Range": content_range,
        }.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Be a pod with the label azure.workload.identity/use; yield its token's file."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Azure)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    url, token = f"http://127.0.0.1:{server.server_port}", tmp_path / "token"
    token.write_text("the pod's token")
    for name, value in {
        "AZURE_CLIENT_ID": "client",
        "AZURE_TENANT_ID": "tenant",
        "AZURE_FEDERATED_TOKEN_FILE": str(token),
        "AZURE_AUTHORITY_HOST": f"{url}/",
        "AZURE_STORAGE_ACCOUNT_NAME": "account",
        "AZURE_ENDPOINT": url,
        "AZURE_ALLOW_HTTP": "true",
        "LLM_FETCH_TIMEOUT_S": "1",
    }.items():
        monkeypatch.setenv(name, value)
    yield token
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_pods_token_opens_the_storage(pod: Path, tmp_path: Path) -> None:
    assert main("az://models/m", str(tmp_path / "m")) == 0
    assert (tmp_path / "m/model.safetensors").read_bytes() == CONTENT


def test_a_token_that_azure_refuses_is_said(
    pod: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pod.write_text("somebody else's")
    assert main("az://models/m", str(tmp_path / "m")) == 8
    assert "Error performing token request" in capsys.readouterr().err
