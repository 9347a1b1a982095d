"""One file, in pieces side by side; what was brought before a break is not fetched again."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path

from llm_backend.models.origin import Origin, Stat

PIECE_BYTES = 8 * 2**20


class Journal:
    """Which pieces of a file are on disk: kept beside it until its checksum was seen to hold.

    A file with a journal is unfinished. The journal of another version of the file does not count.
    """

    def __init__(self, file: Path, stat: Stat) -> None:
        self._path = _path(file)
        self._lock = threading.Lock()
        head = json.dumps([stat.size, stat.tag, PIECE_BYTES])
        # What follows the last line break was torn.
        lines = self._path.read_text().split("\n")[:-1] if self._path.exists() else []
        self.done = {int(line) for line in lines[1:]} if lines[:1] == [head] else set[int]()
        self.resumed = bool(self.done)
        if not self.resumed:
            self._path.write_text(head + "\n")

    def note(self, index: int) -> None:
        """Note that a piece is on disk."""
        with self._lock, self._path.open("a") as journal:
            journal.write(f"{index}\n")


def is_finished(file: Path) -> bool:
    """Whether the file is there and its checksum was seen to hold."""
    return file.exists() and not _path(file).exists()


def finish(file: Path) -> None:
    """Call the file finished."""
    _path(file).unlink()


def forget(file: Path) -> None:
    """Remove a file, finished or not."""
    file.unlink(missing_ok=True)
    _path(file).unlink(missing_ok=True)


def download(
    origin: Origin,
    name: str,
    stat: Stat,
    file: Path,
    pieces: Executor,
    on_bytes: Callable[[int], None],
) -> bool:
    """Bring a file that is not finished; return whether parts of it were there before.

    Args:
        file: where to; its directory must exist.
        pieces: fetches pieces side by side.
        on_bytes: told of every piece, also of those that were there; what it raises ends this.

    Raises:
        LlmError: as `Origin.piece`.
        OSError: the disk is full, or cannot be written to.
    """
    journal = Journal(file, stat)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        os.truncate(descriptor, stat.size)

        def bring(index: int) -> int:
            start = index * PIECE_BYTES
            end = min(start + PIECE_BYTES, stat.size)
            if index not in journal.done:
                _write(descriptor, origin.piece(name, stat, start, end), start)
                journal.note(index)
            return end - start

        futures = [pieces.submit(bring, i) for i in range(-(-stat.size // PIECE_BYTES))]
        try:
            for future in futures:
                on_bytes(future.result())
        finally:  # nobody may write to the descriptor once it is closed
            for future in futures:
                future.cancel()
            for future in futures:
                future.cancelled() or future.exception()
    finally:
        os.close(descriptor)
    return journal.resumed


def _write(descriptor: int, view: memoryview, at: int) -> None:
    while view:
        written = os.pwrite(descriptor, view, at)
        view, at = view[written:], at + written


def sha256(file: Path) -> str:
    """Return a file's SHA-256 as hex digits."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _path(file: Path) -> Path:
    return file.with_name(file.name + ".pieces")
