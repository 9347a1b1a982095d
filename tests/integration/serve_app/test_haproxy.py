"""HAProxy with what `serve_app.haproxy` adds to its configuration, before clients too slow."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator

import pytest

from serve_app import haproxy
from tests.support.processes import free_port, wait_for

HALVES = {
    "a head": b"POST / HTTP/1.1\r\nhost: x\r\n",
    "a body": b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{",
}


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """HAProxy with our additions, a second in place of REQUEST_TIMEOUT_S; yields its port."""
    port = free_port()
    config = tmp_path_factory.mktemp("haproxy") / "haproxy.cfg"
    adapted = haproxy.adapted(
        "defaults\n    mode http\n    timeout client 3600s\n    timeout server 3600s\n"
        "    timeout connect 5s\n"
        f"frontend http_frontend\n    bind 127.0.0.1:{port}\n    default_backend replicas\n"
        f"backend replicas\n    server one 127.0.0.1:{free_port()}\n"
    )
    config.write_text(adapted.replace(f"{haproxy.REQUEST_TIMEOUT_S}s", "1s"))
    with subprocess.Popen([haproxy.PROGRAM, "-db", "-f", str(config)]) as proxy:
        try:
            wait_for(lambda: _listens(port), 10, "HAProxy listens")
            yield port
        finally:
            proxy.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("half", HALVES.values(), ids=HALVES)
def test_a_request_that_never_comes_whole_is_given_up(impatient: int, half: bytes) -> None:
    with socket.create_connection(("127.0.0.1", impatient), timeout=10) as client:
        client.sendall(half)
        assert client.recv(4096).startswith(b"HTTP/1.1 408 ")
        assert client.recv(1) == b""  # and the connection is closed
