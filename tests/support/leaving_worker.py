"""A real rank that SIGUSR1 makes exit with 0 by itself, wherever its main thread is."""

from __future__ import annotations

import os
import signal
import sys
import threading

from llm_backend.runtime import worker


def leave_when_told() -> None:
    """Wait for the signal in a thread: one that waits in a collective runs no handler."""
    signal.sigwait({signal.SIGUSR1})
    os._exit(0)


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    threading.Thread(target=leave_when_told, daemon=True).start()
    worker.main(sys.argv[1:])
