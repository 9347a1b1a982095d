"""One writer at a time for a collection, across the processes of a machine."""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO


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


def _acquire(path: Path) -> IO[bytes]:
    """Return the open, locked file; closing it unlocks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except BaseException:
        file.close()
        raise
    return file
