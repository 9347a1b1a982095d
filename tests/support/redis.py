"""A Redis server of one's own."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import redis

from tests.support.processes import free_port, wait_for

PROGRAM = shutil.which("redis-server")


@contextmanager
def server(program: str) -> Iterator[str]:
    """Run an empty server until the block ends; yield its URL."""
    with tempfile.TemporaryDirectory(prefix="redis-") as directory:
        port = free_port()
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", directory]
        process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
        url = f"redis://127.0.0.1:{port}/0"
        try:
            wait_for(lambda: _answers(url), 10, "Redis listens")
            yield url
        finally:
            process.terminate()
            process.wait(10)


def _answers(url: str) -> bool:
    with redis.Redis.from_url(url) as client:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False
