"""Brings a model to a local directory, checked file by file.

    python -m llm_backend.models.fetch az://CONTAINER/PREFIX|DIRECTORY TARGET

The origin holds `SHA256SUMS` beside the model's files. Files come in pieces side by side; a fetch
that was broken off goes on where it was; nothing is at `TARGET` before every checksum holds. Of
several processes one fetches while the others wait. A copy of what the origin still has is kept
without reading it again. Pickles are left out: nothing here would load them.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath

from llm_backend.errors import ModelFetchError, ModelInvalidError, ModelNotFoundError, StartupError
from llm_backend.models import origin as origins
from llm_backend.models.download import download, finish, forget, is_finished, sha256
from llm_backend.models.origin import Origin, Stat
from llm_backend.settings import load

SUMS = "SHA256SUMS"
_VERIFIED = ".verified"
"""In a finished copy: the origin's SHA256SUMS at the time, which all files were held against."""

_DIGEST = re.compile("[0-9a-fA-F]{64}")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_FILES_AT_ONCE = 2
"""So that one file is fetched while the other's checksum is computed."""

_GIB = 2**30

Report = Callable[[int, int], None]
"""Called with the bytes that are there and those there will be; what it raises ends the fetch."""

log = logging.getLogger(__name__)


def fetch(origin: Origin, target: Path, *, parallel: int, report: Report) -> None:
    """Bring the model to `target`, unless it is there.

    Args:
        parallel: pieces that are fetched side by side.

    Raises:
        ModelNotFoundError: the origin lacks a file that it should have.
        ModelInvalidError: a file does not match its checksum, or `SHA256SUMS` is no such list.
        ModelFetchError: the storage refuses or does not answer, or there is no room.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked(_beside(target, "lock")):
            sums = _sums(origin, target)
            if not _is_copy(target, sums, origin.url):
                _Fetch(origin, target, sums, report).run(parallel)
    except OSError as error:
        raise ModelFetchError(
            f"Cannot write the model to {target} ({error.strerror}). Give it a directory with "
            f"enough room that uid {os.getuid()} can write to."
        ) from error


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold an exclusive lock that the kernel drops when this process dies."""
    with file.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _sums(origin: Origin, target: Path) -> bytes:
    """Return the origin's list of checksums; a finished copy's own where the storage is away."""
    try:
        return origin.read(SUMS)
    except ModelNotFoundError as error:
        raise ModelNotFoundError(
            f"{error} Make it beside the model's files: sha256sum * > {SUMS}."
        ) from error
    except ModelFetchError as error:
        copy = _read(target / _VERIFIED)
        if copy is None:
            raise
        log.warning("Serving the copy in %s without asking for a newer one: %s", target, error)
        return copy


def _is_copy(target: Path, sums: bytes, url: str) -> bool:
    return _read(target / _VERIFIED) == sums and all(
        (target / name).exists() for name in parse_sums(sums, url)
    )


class _Fetch:
    """One fetch, into a directory beside the target that takes its place at the end."""

    def __init__(self, origin: Origin, target: Path, sums: bytes, report: Report) -> None:
        self._origin, self._target, self._sums = origin, target, sums
        self._report = report
        self._partial = _beside(target, "partial")
        self._lock = threading.Lock()
        self._have = self._total = 0

    def run(self, parallel: int) -> None:
        wanted = parse_sums(self._sums, self._origin.url)
        self._open()
        missing = {name: digest for name, digest in wanted.items() if not self._keep(name, digest)}
        with ExitStack() as stack:
            pieces, files = ThreadPoolExecutor(parallel), ThreadPoolExecutor(_FILES_AT_ONCE)
            stack.callback(pieces.shutdown, cancel_futures=True)
            stack.callback(files.shutdown, cancel_futures=True)
            stats = dict(zip(missing, pieces.map(self._origin.stat, missing), strict=True))
            self._total = sum(stat.size for stat in stats.values())
            self._check_room(stats)
            jobs = [
                files.submit(self._bring, name, digest, stats[name], pieces)
                for name, digest in missing.items()
            ]
            for job in jobs:
                job.result()
        self._install()

    def _open(self) -> None:
        """Take up the directory of an earlier try, if that was for the same files."""
        if _read(self._partial / SUMS) != self._sums:
            shutil.rmtree(self._partial, ignore_errors=True)
            self._partial.mkdir()
            (self._partial / SUMS).write_bytes(self._sums)

    def _keep(self, name: str, digest: str) -> bool:
        """Whether a file need not be fetched: it was, or the older copy has it unchanged."""
        file = self._partial / name
        if is_finished(file):
            return True
        older = _read(self._target / _VERIFIED)
        if older is None or parse_sums(older, str(self._target)).get(name) != digest:
            return False
        forget(file)
        file.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError):  # no hard links here: it is fetched again
            os.link(self._target / name, file)
        return is_finished(file)

    def _check_room(self, stats: Mapping[str, Stat]) -> None:
        brought = sum(_blocks(self._partial / name) for name in stats)
        free = shutil.disk_usage(self._partial).free
        if free < self._total - brought:
            raise ModelFetchError(
                f"{self._origin.url} needs {(self._total - brought) / _GIB:.1f} GiB more, but "
                f"{self._target.parent} has {free / _GIB:.1f} GiB left. Make room or choose a "
                "larger volume."
            )

    def _bring(self, name: str, digest: str, stat: Stat, pieces: ThreadPoolExecutor) -> None:
        """Fetch one file and check it; if an earlier try's pieces were in it, anew once."""
        file = self._partial / name
        file.parent.mkdir(parents=True, exist_ok=True)
        while True:
            resumed = download(self._origin, name, stat, file, pieces, self._count)
            if sha256(file) == digest:
                finish(file)
                return
            forget(file)
            if not resumed:
                raise ModelInvalidError(
                    f"{self._origin.url}/{name} does not match its checksum in {SUMS}: upload it "
                    "again, or make the list anew."
                )
            self._count(-stat.size)

    def _count(self, size: int) -> None:
        with self._lock:
            self._have += size
            self._report(self._have, self._total)

    def _install(self) -> None:
        (self._partial / _VERIFIED).write_bytes(self._sums)
        old = _beside(self._target, "old")
        shutil.rmtree(old, ignore_errors=True)
        if self._target.exists():
            self._target.rename(old)
        self._partial.rename(self._target)
        shutil.rmtree(old, ignore_errors=True)


def parse_sums(text: bytes, url: str) -> dict[str, str]:
    """Return the digest of every file to fetch, from the output of `sha256sum`.

    Raises:
        ModelInvalidError: the list is empty or no such list, or names a file outside the model.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(text.decode(errors="replace").splitlines(), start=1):
        digest, _, name = line.partition(" ")
        path = PurePosixPath(name[1:])
        outside = path.is_absolute() or ".." in path.parts or not path.name
        if not _DIGEST.fullmatch(digest) or name[:1] not in (" ", "*") or outside:
            raise ModelInvalidError(
                f"Line {number} of {url}/{SUMS} is not what sha256sum prints for a file of the "
                f"model. Make it anew: sha256sum * > {SUMS}."
            )
        if path.suffix not in _PICKLES:
            found[str(path)] = digest.lower()
    if not found:
        raise ModelInvalidError(f"{url}/{SUMS} lists no file. Make it anew: sha256sum * > {SUMS}.")
    return found


def _read(file: Path) -> bytes | None:
    return file.read_bytes() if file.is_file() else None


def _blocks(file: Path) -> int:
    """Return the bytes that a file takes on disk."""
    return file.stat().st_blocks * 512 if file.exists() else 0


def _beside(target: Path, what: str) -> Path:
    return target.with_name(f".{target.name}.{what}")


class Lines:
    """Reports on standard output, at most every `pause_s` seconds."""

    def __init__(self, pause_s: float = 10.0) -> None:
        self._pause_s, self._last = pause_s, time.monotonic()

    def __call__(self, have: int, total: int) -> None:
        now = time.monotonic()
        if have == total or now - self._last >= self._pause_s:
            self._last = now
            print(f"{have / _GIB:.2f} of {total / _GIB:.2f} GiB", flush=True)  # noqa: T201


def main(source: str, target: str) -> int:
    """Fetch a model; return the exit code."""
    try:
        settings = load()
        origin = origins.open_origin(source, settings.fetch_timeout_s)
        fetch(origin, Path(target), parallel=settings.fetch_parallel, report=Lines())
    except StartupError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    print(f"{target} is complete", flush=True)  # noqa: T201
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m llm_backend.models.fetch az://CONTAINER/PREFIX|DIRECTORY TARGET")
    sys.exit(main(*sys.argv[1:]))
