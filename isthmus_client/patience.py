"""How often, and when, a stream that was lost is taken up again."""

from __future__ import annotations

import asyncio

from isthmus_client.errors import IsthmusError, RefusedError, UnreachableError

MAX_PAUSE_S = 10.0
"""An answer is kept for a minute; whoever waits longer than this comes too late for it."""


def lost(error: IsthmusError) -> bool:
    """Whether `error` is a connection that broke, or nobody there who could take it up now.

    The second is the gateway's own refusal, or that of a proxy in front of it.
    """
    if isinstance(error, RefusedError):
        return error.status == 429 or error.status >= 500
    return isinstance(error, UnreachableError)


class Patience:
    """A number of attempts, with longer and longer pauses before them."""

    def __init__(self, attempts: int, first_pause_s: float) -> None:
        self._left = attempts
        self._pause_s = first_pause_s

    async def wait(self, error: IsthmusError) -> None:
        """Wait until the next attempt, as long as the gateway asks for if it does.

        Raises:
            IsthmusError: `error`, since no attempt is left.
        """
        if not self._left:
            raise error
        asked = error.retry_after if isinstance(error, RefusedError) else None
        await asyncio.sleep(min(max(self._pause_s, asked or 0.0), MAX_PAUSE_S))
        self._left -= 1
        self._pause_s *= 2
