"""Parsing in processes that can be killed: a bad document costs its own parse, nothing else."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio import StreamReader, StreamWriter
from asyncio.subprocess import PIPE, Process
from dataclasses import asdict
from typing import Any, cast

from rag_graph import errors
from rag_graph.errors import DocumentError, DocumentTooLargeError, UnreadableDocumentError
from rag_graph.ingest.parse import Limits
from rag_graph.ingest.sections import Parsed, Section
from rag_graph.settings import RagSettings

REPLY_BYTES = 1 << 30
"""Longest reply line; the worker's limits keep replies far below."""


def limits_of(settings: RagSettings) -> Limits:
    """Return the limits that the settings set."""
    return Limits(
        max_pages=settings.max_pages,
        max_unzipped_bytes=settings.max_unzipped_bytes,
        max_text_chars=settings.max_text_chars,
        timeout_s=settings.parse_timeout_s,
        memory_bytes=settings.parse_memory_bytes,
    )


class Sandbox:
    """Up to `processes` parsing processes. They start when needed and serve many documents.

    A process that runs late, dies or outgrows its memory is killed; the next document gets a new
    one. They end when no document has come for `idle_s` seconds, since one that has read a large
    document keeps much memory, and with this process: their stdin closes.
    """

    def __init__(self, limits: Limits, processes: int, idle_s: float = 60.0) -> None:
        self._limits = limits
        self._turn = asyncio.Semaphore(processes)
        self._idle: list[Process] = []
        self._idle_s = idle_s
        self._resting: asyncio.TimerHandle | None = None
        self._ending: asyncio.Task[None] | None = None

    async def parse(self, name: str, content: bytes) -> Parsed:
        """Return the text of the document `name`.

        Raises:
            DocumentError: it cannot be read within the limits; the message says why.
        """
        async with self._turn:
            self._wake()
            process = self._idle.pop() if self._idle else await _start()
            reply = None
            try:
                reply = await self._exchange(process, name, content)
            finally:
                # After running out of memory a process works on, but keeps what it holds.
                if reply is None or reply.get("error") == DocumentTooLargeError.__name__:
                    await _kill(process)
                else:
                    self._idle.append(process)
                self._rest()  # also where it was killed: others may be idle
        return _decode(reply)

    async def aclose(self) -> None:
        """End the idle processes."""
        self._wake()
        if self._ending is not None:
            await self._ending
        await self._end_idle()

    def _rest(self) -> None:
        self._wake()
        self._resting = asyncio.get_running_loop().call_later(self._idle_s, self._end)

    def _wake(self) -> None:
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None

    def _end(self) -> None:
        self._ending = asyncio.create_task(self._end_idle())

    async def _end_idle(self) -> None:
        while self._idle:
            await _kill(self._idle.pop())

    async def _exchange(self, process: Process, name: str, content: bytes) -> dict[str, Any]:
        stdin, stdout = cast("StreamWriter", process.stdin), cast("StreamReader", process.stdout)
        header = {"name": name, "size": len(content), "limits": asdict(self._limits)}
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                stdin.write(json.dumps(header).encode() + b"\n")
                stdin.write(content)
                await stdin.drain()
                line = await stdout.readline()
        except TimeoutError as error:
            raise DocumentTooLargeError(
                f"{name} took longer than {self._limits.timeout_s:g} s to read. "
                "Split it, or raise RAG_PARSE_TIMEOUT_S."
            ) from error
        except ConnectionError as error:
            raise _died(name) from error
        if not line.endswith(b"\n"):
            raise _died(name)
        reply: dict[str, Any] = json.loads(line)
        return reply


async def _start() -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "rag_graph.ingest.parse_worker",
        stdin=PIPE,
        stdout=PIPE,
        limit=REPLY_BYTES,
    )


async def _kill(process: Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


def _died(name: str) -> UnreadableDocumentError:
    return UnreadableDocumentError(
        f"{name} ended the process that read it: it is damaged, or needs more memory than "
        "RAG_PARSE_MEMORY_BYTES allows."
    )


def _decode(reply: dict[str, Any]) -> Parsed:
    if "error" in reply:
        kind: type[DocumentError] = getattr(errors, reply["error"])
        raise kind(reply["message"])
    sections = (Section(text, page, tuple(path)) for text, page, path in reply["sections"])
    return Parsed(reply["title"], tuple(sections))
