"""Child processes of `isthmus up`: started together, watched, and never left behind.

Each child leads a session of its own, so that a Ctrl-C in the terminal reaches only `isthmus up`,
which then stops them in order. Should `isthmus up` be killed outright, the kernel sends each child
SIGTERM (Linux), and it stops as it always does.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cli.errors import ChildError

LOG_LINES = 15
"""Lines of a failed child's log that its error shows."""
_PR_SET_PDEATHSIG = 1


class Child:
    """One process of the system."""

    def __init__(self, title: str, arguments: Sequence[str], log: Path) -> None:
        self.title = title
        self.log = log
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, environment: Mapping[str, str]) -> None:
        """Start it, with `environment` on top of this process's own."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )

    def check(self) -> None:
        """Return while it runs.

        Raises:
            ChildError: it ended; the message has the last lines of its log.
        """
        if self._process is not None and (status := self._process.poll()) is not None:
            raise ChildError(f"The {self.title} ended with status {status}.{self._tail()}")

    def stop(self) -> None:
        """Ask it to end; returns at once."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float) -> None:
        """Return once it has ended; after `seconds` it is killed, with all of its session."""
        if self._process is None:
            return
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        shown = "".join(f"\n    {line}" for line in lines)
        return f" Its last words, of {self.log}:{shown}" if lines else ""


def stop_all(children: Iterable[Child], seconds: float) -> None:
    """Stop them all at once and wait until each has ended."""
    children = list(children)
    for child in children:
        child.stop()
    for child in children:
        child.wait(seconds)


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
