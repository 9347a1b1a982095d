"""A private directory for one start of the engine: its sockets, and mpirun's temporary files."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

_PREFIX = "isthmus-llm-"
_LOCK = "lock"


class Scratch:
    """A new directory that nobody else can enter, until `remove`.

    A process that is killed cannot remove its own; so each holds a kernel lock on a file in it,
    and whoever makes a new one removes those whose lock is free.
    """

    def __init__(self) -> None:
        _sweep(Path(tempfile.gettempdir()))
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock = (self.path / f"{_LOCK}.new").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        # Locked before it has its name: a sweep never sees it free.
        (self.path / f"{_LOCK}.new").rename(self.path / _LOCK)

    def remove(self) -> None:
        """Remove the directory and all in it. Safe to call twice."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def _sweep(parent: Path) -> None:
    for directory in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # in use, another user's, or gone in the meantime
            _remove_if_free(directory)


def _remove_if_free(directory: Path) -> None:
    lock = os.open(directory / _LOCK, os.O_WRONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(directory)
    finally:
        os.close(lock)
