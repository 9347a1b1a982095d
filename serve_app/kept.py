"""The frames of one streamed answer, for any number of readers."""

from __future__ import annotations

import asyncio
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
    maker: asyncio.Task[None] | None = None
    copier: asyncio.Task[None] | None = None
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, frame: bytes) -> None:
        """Add a frame and wake the readers."""
        self.frames.append(frame)
        self.size += len(frame)
        self._wake()

    def end(self) -> None:
        """Say that no frame follows."""
        self.ended = True
        self._wake()

    async def beyond(self, seen: int) -> list[bytes]:
        """Return the frames after the first `seen`, waiting for one; none once there is no more."""
        while len(self.frames) <= seen and not self.ended:
            await self._news.wait()
        return self.frames[seen:]

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
