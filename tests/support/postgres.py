"""A PostgreSQL server of one's own, which refuses to be run by root."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.processes import free_port

USER = "postgres"


def programs() -> Path | None:
    """Return where Debian puts the newest server's programs, or None where there is no server."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@contextmanager
def server(binaries: Path) -> Iterator[str]:
    """Run an empty server until the block ends; yield its URL."""
    with tempfile.TemporaryDirectory(prefix="postgres-") as directory:
        data, port = Path(directory) / "data", free_port()
        if os.getuid() == 0:
            shutil.chown(directory, USER)
        _run(binaries / "initdb", "-D", data, "-U", USER, "-A", "trust", "--no-sync")
        options = f"-h 127.0.0.1 -p {port} -k {directory} -F"
        log = Path(directory) / "log"
        _run(binaries / "pg_ctl", "-D", data, "-w", "-l", log, "-o", options, "start")
        try:
            yield f"postgresql://{USER}@127.0.0.1:{port}/postgres"
        finally:
            _run(binaries / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")


def _run(*command: object) -> None:
    user = USER if os.getuid() == 0 else None
    subprocess.run(
        [str(part) for part in command], check=True, user=user, stdout=subprocess.DEVNULL, cwd="/"
    )
