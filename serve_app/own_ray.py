"""A Ray instance that belongs to this process: nothing of it is left when the block ends."""

from __future__ import annotations

import ctypes
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
import ray

from serve_app.settings import ServeSettings

REAP_TIMEOUT_S = 5.0
"""How long Ray's processes may take to end by themselves before they are killed."""
REAP_POLL_S = 0.5

_PR_SET_CHILD_SUBREAPER = 36


@contextmanager
def running(settings: ServeSettings) -> Iterator[None]:
    """Run a Ray instance that ends with the block, whatever else runs on this host.

    Called from the main thread.
    """
    _adopt_orphans()
    on_sigterm = signal.getsignal(signal.SIGTERM)
    with tempfile.TemporaryDirectory(prefix="isthmus-", ignore_cleanup_errors=True) as directory:
        try:
            ray.init(
                address="local",
                num_cpus=settings.ray_cpus,
                num_gpus=0,
                include_dashboard=False,
                object_store_memory=settings.ray_object_store_mib * 2**20,
                _temp_dir=directory,
            )
            signal.signal(signal.SIGTERM, on_sigterm)  # Ray has put its own in its place
            yield
        finally:
            with _undisturbed():
                ray.shutdown()
                _reap()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Take no further signal: the first one has led here.

    `isthmus up` sends two, and Ray's handler, if Ray was just starting, raises at each of them.
    """
    before = {s: signal.signal(s, signal.SIG_IGN) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _adopt_orphans() -> None:
    """Become the parent of what Ray's processes leave behind (Linux only).

    A raylet that is stopped while it starts leaves its agents running: they look for their parent
    only every few seconds, five times over. As orphans they would be init's; this way they are
    found among this process's own children.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _reap() -> None:
    """Wait for what Ray left of itself, then kill it.

    It is listed anew until nothing is found: a listing that is made while a process ends lacks that
    process's children, which only then become this one's.
    """
    patience = time.monotonic() + REAP_TIMEOUT_S
    end = patience + REAP_TIMEOUT_S
    while (left := psutil.Process().children(recursive=True)) and time.monotonic() < end:
        if time.monotonic() > patience:
            _kill(left)
        psutil.wait_procs(left, timeout=REAP_POLL_S)


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
