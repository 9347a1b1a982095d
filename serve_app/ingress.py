"""Which process takes the clients' connections: HAProxy, or Ray Serve's own proxy in Python.

HAProxy hands requests straight to the gateway's replicas: no hop through a second Python process
(docs/benchmarks.md, "Ingress"). Ray Serve reads its choice from the environment when it is first
imported; so this module imports no Ray, and has to be used before anything does.
"""

from __future__ import annotations

import os
import random
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from serve_app.settings import ServeSettings

REPLICA_PORTS = 100
"""Ports on which the replicas of one gateway take requests from its HAProxy.

Ray Serve gives a port out again only 150 s after its replica ended; with 20, a dozen updates and
crashes in that time had the next update wait."""
REPLICA_PORT_RANGE = (20_000, 32_000)
"""Above Ray's own ports for workers, below those that the kernel gives away."""

PROGRAM = "isthmus-haproxy"
"""What Ray Serve runs in HAProxy's place (`serve_app.haproxy`), beside the interpreter."""
RETRIES = {
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
    "RAY_SERVE_HAPROXY_RETRIES": "6",
    "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": "65536",
}
"""A request to a replica that goes before it says anything is sent to another one.

After a reload, the HAProxy of before takes one more request of each connection that it still has,
and knows the old replicas only: it gives one up after three failures, and by default tries no more
than that. A request can be sent again if it fits into the buffer. The chart sets the same."""


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
    """Return what has Ray Serve run HAProxy with its files in `directory`."""
    metrics, statistics, fallback, fallback_grpc = _free_ports(4)
    first = _free_block()
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(Path(sys.executable).with_name(PROGRAM)),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(directory / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(directory / "a"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(directory / "m"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(directory),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(directory / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(statistics),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(first),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(first + REPLICA_PORTS - 1),
        # Where HAProxy turns while no replica answers its checks: by default the same for all
        # gateways of a machine, and shared, so that requests would go to another one.
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(fallback_grpc),
        # A machine of one's own may be busy for seconds: its one replica is not given up for that.
        "RAY_SERVE_HAPROXY_HEALTH_CHECK_FASTINTER": "5s",
        "RAY_SERVE_HAPROXY_HEALTH_CHECK_FALL": "4",
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        **RETRIES,
        # There is one HAProxy, which knows at once of a replica that goes: nothing to wait for.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0",
    }


def _free_block() -> int:
    """Return the first of a block of ports that nobody listens on.

    Each gateway has a block of its own: by default all take ports from 30000 on, and while a second
    gateway finds out that its first choice is taken, its HAProxy sends requests to the first one.
    """
    blocks = list(range(*REPLICA_PORT_RANGE, REPLICA_PORTS))
    random.shuffle(blocks)
    return next(
        first for first in blocks if all(map(_is_free, range(first, first + REPLICA_PORTS)))
    )


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
