"""Everything that `cli` raises on purpose.

CliError                 printed as one sentence; `exit_code` is the command's status
├── UsageError           exit 2: an argument, a setting or a port cannot be as it is
├── GatewayError         exit 1: the gateway is not there, or answered with an error
└── ChildError           exit 1: a process of the system ended or did not become ready
"""

from __future__ import annotations

from typing import ClassVar


class CliError(Exception):
    """Base of the tree. Its text says what went wrong and what to do next."""

    exit_code: ClassVar[int] = 1


class UsageError(CliError):
    """The command cannot be run as it was given."""

    exit_code = 2


class GatewayError(CliError):
    """The gateway cannot be reached, or refused."""


class ChildError(CliError):
    """A process that `isthmus up` started failed."""
