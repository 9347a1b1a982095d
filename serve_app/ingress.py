"""Which process takes the clients' connections: HAProxy, or Ray Serve's own proxy in Python.

HAProxy hands requests straight to the gateway's replicas: no hop through a second Python process
(docs/benchmarks.md, "Ingress"). Ray Serve reads its choice from the environment when it is first
imported; so this module imports no Ray, and has to be used before anything does.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from serve_app.settings import ServeSettings


@contextmanager
def prepared(settings: ServeSettings) -> Iterator[None]:
    """Have Ray Serve use the ingress of the settings, if it is imported within the block.

    What it needs lies in a directory of its own, so that several gateways run beside each other.
    """
    if settings.ingress == "python":
        yield
        return
    # Short: Ray adds the 56 digits of its node, and a socket's path has at most 97 characters.
    with tempfile.TemporaryDirectory(prefix="ingress-") as directory:
        for name, value in environment(Path(directory)).items():
            os.environ.setdefault(name, value)
        yield


def environment(directory: Path) -> Mapping[str, str]:
    """Return what has Ray Serve run HAProxy with its files in `directory`, which is written to."""
    program = directory / "haproxy"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m serve_app.haproxy "$@"\n')
    program.chmod(0o700)
    metrics, statistics = _free_ports(2)
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(program),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(directory / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(directory / "a"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(directory / "m"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(directory),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(directory / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(statistics),
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        # There is one HAProxy, which knows at once of a replica that goes: nothing to wait for.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0",
    }


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
