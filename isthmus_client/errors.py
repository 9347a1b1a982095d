"""Everything that the client raises on purpose.

IsthmusError
├── RefusedError         the gateway answered with an error: its code, status, what to do
└── UnreachableError     there is no gateway, or the connection broke off
"""

from __future__ import annotations

from typing import Any


class IsthmusError(Exception):
    """Base of the tree. Its text is a sentence for a person."""


class RefusedError(IsthmusError):
    """The gateway answered with an error."""

    def __init__(
        self,
        message: str,
        code: str = "",
        status: int = 0,
        retry_after: float | None = None,
        passages: tuple[dict[str, Any], ...] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        """For programs; one of `contracts.errors.Code`."""
        self.status = status
        """HTTP status; 0 where the error came in the middle of a stream."""
        self.retry_after = retry_after
        """Seconds after which trying again is worth it."""
        self.passages = passages
        """What was found, where no answer could be generated."""


class UnreachableError(IsthmusError):
    """The gateway cannot be reached, or broke off."""
