"""The supervisor's end of the lifelines: hears every rank, and can end it for certain."""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import secrets
import select
import signal
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from llm_backend.runtime.health import RankVitals
from llm_backend.runtime.lifeline import Beat

_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: see SO_PEERCRED in unix(7)
_GONE_TIMEOUT_S = 5.0
_TOKEN_TIMEOUT_S = 5.0

log = logging.getLogger(__name__)


class RankLines:
    """The sockets to which every rank of one start of the engine connects.

    Ranks of this host come over a Unix socket, which also tells their process ids; those of other
    hosts over TCP, and show a token first.

    Args:
        vitals: kept up to date here, by rank.
        on_lost: called when a rank's connection ends.
    """

    def __init__(self, vitals: dict[int, RankVitals], on_lost: Callable[[], None]) -> None:
        self.token = secrets.token_hex(16)
        """What a rank on another host must show."""
        self._vitals = vitals
        self._on_lost = on_lost
        self._processes: list[int] = []
        self._writers: list[asyncio.StreamWriter] = []
        self._remote: dict[asyncio.StreamWriter, asyncio.Future[None]] = {}
        self._servers: list[asyncio.Server] = []
        self._decoder = msgspec.json.Decoder(Beat)

    async def listen(self, path: Path) -> None:
        """Start to accept ranks of this host at `path`."""
        self._servers.append(await asyncio.start_unix_server(self._hear_local, path))

    async def listen_remote(self, address: str) -> str:
        """Start to accept ranks of other hosts; return the `ADDRESS:PORT` they connect to."""
        server = await asyncio.start_server(self._hear_remote, address, 0)
        self._servers.append(server)
        port = server.sockets[0].getsockname()[1]
        return f"{address}:{port}"

    async def end_ranks(self) -> None:
        """End every rank that ever connected; return when all are gone.

        Those of this host are killed. A pidfd names one process for good, so that a reused pid is
        never hit. Those of other hosts end themselves when their connection does.
        """
        for writer in self._remote:
            if writer.can_write_eof() and not writer.is_closing():
                writer.write_eof()
        for process in self._processes:
            try:
                signal.pidfd_send_signal(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        await asyncio.to_thread(_wait_gone, self._processes)
        for process in self._processes:
            os.close(process)
        self._processes.clear()
        await self._remote_gone()

    async def _remote_gone(self) -> None:
        if not self._remote:
            return
        _, open_still = await asyncio.wait(self._remote.values(), timeout=_GONE_TIMEOUT_S)
        if open_still:
            log.warning("%d ranks of other hosts have not hung up.", len(open_still))

    def close(self) -> None:
        """Stop listening and hang up, which ends any rank that still runs."""
        for server in self._servers:
            server.close()
        for writer in self._writers:
            writer.close()

    async def _hear_local(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self._keep_process(writer.get_extra_info("socket"))
        await self._hear(reader)

    async def _hear_remote(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._writers.append(writer)
        if not await self._shows_token(reader):
            log.warning("Hung up on %s: not a rank.", writer.get_extra_info("peername"))
            writer.close()
            return
        ended = self._remote[writer] = asyncio.get_running_loop().create_future()
        try:
            await self._hear(reader)
        finally:
            ended.set_result(None)

    async def _shows_token(self, reader: asyncio.StreamReader) -> bool:
        expected = f"{self.token}\n".encode()
        try:
            async with asyncio.timeout(_TOKEN_TIMEOUT_S):
                shown = await reader.readexactly(len(expected))
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
            return False
        return hmac.compare_digest(shown, expected)

    async def _hear(self, reader: asyncio.StreamReader) -> None:
        rank: int | None = None
        try:
            while line := await reader.readline():
                rank = self._beat(self._decoder.decode(line))
        except OSError:
            pass  # the same as an end: the rank was killed with unread data, or its host is gone
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
