"""HAProxy in front of the gateway, as `serve_app.main` runs it."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from serve_app.ingress import REPLICA_PORT_RANGE
from tests.support.serve import Gateway


def listening(process: psutil.Process) -> set[str]:
    """Return the addresses on which a process accepts connections."""
    return {c.laddr.ip for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN}


def test_haproxy_takes_the_connections_on_loopback_alone(served: Gateway) -> None:
    proxies = [process for process in served.tree() if process.name() == "haproxy"]
    assert proxies
    assert [listening(process) for process in proxies] == [{"127.0.0.1"}] * len(proxies)
    ports = {c.laddr.port for p in proxies for c in p.net_connections("tcp")}
    assert urlsplit(served.url).port in ports


def test_replicas_take_requests_on_loopback_alone(served: Gateway) -> None:
    """HAProxy hands requests to ports of the gateway's replicas."""
    first, last = REPLICA_PORT_RANGE
    found = [
        c.laddr.ip
        for process in served.tree()
        for c in process.net_connections("tcp")
        if c.status == psutil.CONN_LISTEN and first <= c.laddr.port < last
    ]
    assert set(found) == {"127.0.0.1"}


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /../../etc/passwd HTTP/1.1", 404),
        (b"GET /ui/%2e%2e/app.py HTTP/1.1", 404),
        (b"GET //evil.example/ HTTP/1.1", 404),
        (b"GET /\x00 HTTP/1.1", 400),
        (b"nonsense", 400),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1", 400),
    ],
)
def test_bad_requests_are_refused_and_do_no_harm(
    served: Gateway, request_line: bytes, status: int
) -> None:
    where = urlsplit(served.url)
    with socket.create_connection((where.hostname or "", where.port or 0), timeout=10) as sock:
        sock.sendall(request_line + b"\r\nhost: x\r\nconnection: close\r\n\r\n")
        answer = sock.recv(4096)
    assert int(answer.split(b" ")[1]) == status, answer
    assert b"Traceback" not in answer
    assert httpx.get(f"{served.url}/healthz").status_code == 200
