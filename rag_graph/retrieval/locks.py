"""One process at a time, across those of a machine: for a collection's commits, for the jobs."""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

RETRY_S = 0.5


class WriterLock:
    """Held around the commits of one document, some milliseconds; the kernel frees a dead one's.

    On object storage there is no file to lock: a collection there needs a single writing process,
    which is what the ingestor deployment is.
    """

    def __init__(self, store_uri: str, collection: str) -> None:
        folder = None if "://" in store_uri else Path(store_uri) / ".locks"
        self._path = folder / f"{collection}.lock" if folder else None
        self._here = asyncio.Lock()

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Hold the lock.

        Raises:
            OSError: the lock file cannot be made.
        """
        async with self._here:
            if self._path is None:
                yield
                return
            with await asyncio.to_thread(_acquire, self._path):
                yield


def _acquire(path: Path, how: int = fcntl.LOCK_EX) -> IO[bytes]:
    """Return the open, locked file; closing it unlocks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("ab")
    try:
        fcntl.flock(file, how)
    except BaseException:
        file.close()
        raise
    return file


class ProcessLock:
    """Held for as long as its process lives, or until it is released.

    On object storage there is nothing to lock, and everybody who asks gets it.
    """

    def __init__(self, store_uri: str, name: str) -> None:
        folder = None if "://" in store_uri else Path(store_uri) / ".locks"
        self._path = folder / f"{name}.lock" if folder else None
        self._file: IO[bytes] | None = None

    def acquire(self) -> bool:
        """Take the lock if no other process has it, and return whether it is held now.

        Raises:
            OSError: the lock file cannot be made.
        """
        if self._path is None or self._file is not None:
            return True
        try:
            self._file = _acquire(self._path, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    async def wait(self) -> None:
        """Return once the lock is held. It is asked for now and then: a wait in the kernel would
        keep this process from ending.

        Raises:
            OSError: the lock file cannot be made.
        """
        while not self.acquire():  # noqa: ASYNC110 - another process sets no event here
            await asyncio.sleep(RETRY_S)

    def release(self) -> None:
        """Let another process have it."""
        if self._file is not None:
            self._file.close()
            self._file = None
