"""Real processes for tests: free ports, start, wait until ready, stop by pid."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def wait_for(
    condition: Callable[[], bool], seconds: float, what: str, poll_s: float = 0.05
) -> None:
    """Return once `condition()` holds.

    Raises:
        TimeoutError: it did not hold within `seconds`.
    """
    end = time.monotonic() + seconds
    while True:
        # The clock first: whatever pauses this process is not held against what it waits for.
        late = time.monotonic() > end
        if condition():
            return
        if late:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(poll_s)


def is_ok(url: str) -> bool:
    """Whether a GET of `url` is answered with 200."""
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def running(
    command: Sequence[str],
    *,
    ready_url: str,
    log: Path,
    env: Mapping[str, str] | None = None,
    seconds: float = 60,
    stdin: bool = False,
    python: str = sys.executable,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `python -m …` until the block ends, having waited for `ready_url` to answer 200.

    The process is interrupted as Ctrl-C would, and killed only if that does not end it.
    """
    with log.open("wb") as out:
        process = subprocess.Popen(
            [python, *command],
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            cwd=ROOT,
            start_new_session=True,
        )
    try:
        wait_for(lambda: _alive(process, log) and is_ok(ready_url), seconds, f"ready: {command}")
        yield process
    finally:
        try:
            stop(process)
        finally:
            if process.stdin is not None:
                process.stdin.close()


def stop(process: subprocess.Popen[bytes], seconds: float = 20) -> int:
    """Interrupt `process`, wait, and return its exit status.

    Raises:
        TimeoutError: it had to be killed.
    """
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise TimeoutError(f"{process.args!r} did not end within {seconds} s of SIGINT") from None


def _alive(process: subprocess.Popen[bytes], log: Path) -> bool:
    if process.poll() is not None:
        tail = log.read_text(errors="replace")[-4000:]
        raise RuntimeError(f"{process.args!r} exited with {process.returncode}:\n{tail}")
    return True
