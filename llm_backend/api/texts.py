"""Work on a request's text: in threads of its own where that takes long, and not without end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from llm_backend.errors import OverloadedError

_THREADS = 2
_SHORT_BYTES = 16 * 1024
_MOST_BYTES = 16 * 2**20
_BYTES_A_SECOND = 2**20

_T = TypeVar("_T")


class Texts:
    """Does what takes time in proportion to a request's body, such as tokenising.

    A megabyte takes a second, for which the tokens of others must not wait. The threads are not
    asyncio's own, which the supervisor needs.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, "texts")
        self._bytes = 0

    async def work(self, work: Callable[[], _T], size: int) -> _T:
        """Return what `work` does.

        Args:
            size: of the body, bytes; a short one's work is done at once.

        Raises:
            OverloadedError: too many bytes are being worked on, or wait for it.
        """
        if size <= _SHORT_BYTES:
            return work()
        if self._bytes and self._bytes + size > _MOST_BYTES:
            raise OverloadedError(
                f"{self._bytes} bytes of long requests wait to be tokenised; try again later.",
                None,
                max(1, self._bytes // _BYTES_A_SECOND // _THREADS),
            )
        self._bytes += size
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._bytes -= size

    def close(self) -> None:
        """Begin nothing more; what runs ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)
