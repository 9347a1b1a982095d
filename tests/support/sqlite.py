"""What aiosqlite leaves behind."""

from __future__ import annotations

import asyncio
import threading

WORKER = "(_connection_worker_thread)"


async def connections_end() -> None:
    """Wait for the threads of connections that could not be opened.

    aiosqlite ends such a thread without anybody waiting for it. Its last act is a call into the
    event loop, which fails if the test and its loop are over by then: in whatever test runs next.
    """
    for thread in threading.enumerate():
        if thread.name.endswith(WORKER):
            await asyncio.to_thread(thread.join, 10)
