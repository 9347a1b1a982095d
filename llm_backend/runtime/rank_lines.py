"""The supervisor's end of the lifelines: hears every rank, and can end it for certain."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import msgspec

from llm_backend.runtime.health import RankVitals
from llm_backend.runtime.lifeline import Beat

_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: see SO_PEERCRED in unix(7)
_GONE_TIMEOUT_S = 5.0


class RankLines:
    """One Unix socket to which every rank of one start of the engine connects.

    Args:
        vitals: kept up to date here, by rank.
        on_lost: called when a rank's connection ends.
    """

    def __init__(self, vitals: dict[int, RankVitals], on_lost: Callable[[], None]) -> None:
        self._vitals = vitals
        self._on_lost = on_lost
        self._processes: list[int] = []
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None
        self._decoder = msgspec.json.Decoder(Beat)

    async def listen(self, path: Path) -> Self:
        """Start to accept ranks at `path`."""
        self._server = await asyncio.start_unix_server(self._hear, path)
        return self

    async def end_ranks(self) -> None:
        """Kill every rank that ever connected; return when all are gone.

        A pidfd names one process for good, so that a reused pid is never hit.
        """
        for process in self._processes:
            try:
                signal.pidfd_send_signal(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        await asyncio.to_thread(_wait_gone, self._processes)
        for process in self._processes:
            os.close(process)
        self._processes.clear()

    def close(self) -> None:
        """Stop listening and hang up, which ends any rank that still runs."""
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.close()

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self._keep_process(writer.get_extra_info("socket"))
        rank: int | None = None
        try:
            while line := await reader.readline():
                rank = self._beat(self._decoder.decode(line))
        except ConnectionResetError:
            pass  # the same as an end: the rank was killed with unread data in its socket
        if rank is not None:
            self._vitals[rank].lost = True
            self._on_lost()

    def _beat(self, beat: Beat) -> int:
        self._vitals[beat.rank] = RankVitals(beat.pid, time.monotonic(), beat.step)
        return beat.rank

    def _keep_process(self, connection: socket.socket) -> None:
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        try:
            self._processes.append(os.pidfd_open(_CREDENTIALS.unpack(raw)[0]))
        except ProcessLookupError:
            return  # it connected and died at once; the connection's end will tell


def _wait_gone(processes: list[int]) -> None:
    """Wait until the processes have ended; a pidfd becomes readable then."""
    end = time.monotonic() + _GONE_TIMEOUT_S
    for process in processes:
        select.select([process], [], [], max(0.0, end - time.monotonic()))
