"""What Ray Serve is told of HAProxy, and what HAProxy is told of the world."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from serve_app import haproxy, ingress
from serve_app.settings import ServeSettings

CONFIG = """defaults
    mode http
frontend prometheus
    bind :9101
    mode http
frontend http_frontend
    bind *:8000
listen stats
  bind *:8404
"""


def test_what_is_not_for_clients_is_bound_to_loopback() -> None:
    adapted = haproxy.adapted(CONFIG)
    assert "bind 127.0.0.1:9101\n" in adapted
    assert "bind 127.0.0.1:8404\n" in adapted
    assert "bind *:8000\n" in adapted  # SERVE_HOST says where clients come from


def test_requests_are_held_whole_so_that_they_can_be_sent_again() -> None:
    adapted = haproxy.adapted(CONFIG)
    assert adapted.startswith("defaults\n    option http-buffer-request\n")
    assert haproxy.adapted(adapted) == adapted


def test_its_paths_are_short_enough_for_sockets(tmp_path: Path) -> None:
    given = ingress.environment(tmp_path)
    node = "f" * 56
    for name in ("RAY_SERVE_HAPROXY_SOCKET_PATH", "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH"):
        path = Path("/tmp/ingress-abcdefgh") / node / Path(given[name]).name  # noqa: S108
        assert len(str(path)) + len(".12345.tmp") < 97
    assert os.access(given["RAY_SERVE_HAPROXY_BINARY_PATH"], os.X_OK)


def test_a_gateway_takes_no_port_of_one_that_runs(tmp_path: Path) -> None:
    """Ray's defaults would have HAProxy send requests to another gateway of the machine."""
    first = ports_of(ingress.environment(tmp_path))
    assert len(first) == 6
    with ExitStack() as stack:
        for port in first:
            stack.enter_context(socket.create_server(("127.0.0.1", port)))
        for _ in range(20):
            assert first.isdisjoint(ports_of(ingress.environment(tmp_path)))


def ports_of(environment: Mapping[str, str]) -> set[int]:
    return {int(value) for name, value in environment.items() if name.endswith("_PORT")}


@pytest.mark.parametrize(("choice", "told"), [("python", None), ("haproxy", "1")])
def test_the_setting_decides(
    choice: str, told: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", {})
    with ingress.prepared(ServeSettings(ingress=choice)):  # type: ignore[arg-type]
        assert os.environ.get("RAY_SERVE_ENABLE_HA_PROXY") == told
