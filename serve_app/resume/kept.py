"""The frames of one streamed answer, for any number of readers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Kept:
    """One answer: the frames so far, and who reads them."""

    frames: list[bytes] = field(default_factory=list)
    size: int = 0
    """Bytes of the frames."""
    ended: bool = False
    begun: bool = False
    """Whether anybody has read of it yet."""
    readers: int = 0
    left_at: float = 0.0
    """The event loop's time when the last reader went."""
    copied: int | None = None
    """Frames that are safe elsewhere, beyond which none is read; None: all may be read."""
    maker: asyncio.Task[None] | None = None
    copier: asyncio.Task[None] | None = None
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, *frames: bytes) -> None:
        """Add frames and wake the readers."""
        self.frames += frames
        self.size += sum(map(len, frames))
        self._wake()

    def end(self) -> None:
        """Say that no frame follows."""
        self.ended = True
        self._wake()

    def let_read(self, copied: int | None) -> None:
        """Have the first `copied` frames read, or all and any that come."""
        self.copied = copied
        self._wake()

    async def made(self, seen: int) -> Sequence[bytes]:
        """Return the frames after the first `seen`, waiting for one; none once there is no more."""
        while len(self.frames) <= seen and not self.ended:
            await self._news.wait()
        return self.frames[seen:]

    async def read(self, seen: int) -> Sequence[bytes]:
        """Return as `made`, but only frames that may be read."""
        while self.copied is not None and self.copied <= seen:
            if self.ended and len(self.frames) <= seen:
                return ()
            await self._news.wait()
        if self.copied is not None:
            return self.frames[seen : self.copied]
        return await self.made(seen)

    def cancel(self) -> None:
        """Stop the work."""
        for task in self.tasks():
            task.cancel()

    def tasks(self) -> list[asyncio.Task[None]]:
        """Return the tasks that make and copy the answer."""
        return [task for task in (self.maker, self.copier) if task is not None]

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()
