"""Everything that `serve_app` raises on purpose.

    ServeAppError
    ├── SettingsError            a setting cannot be: unknown name, wrong value, port in use
    ├── RequestError             the client's fault; carries its code and the field at fault
    ├── UnavailableError         a part of the application cannot answer now: try again later
    │   └── BusyError                no room or no turn for more LLM work
    └── DegradedError            the LLM did not answer, but retrieval did: carries the passages

`code` is one of `contracts.errors.Code` and `str(error)` the sentence for a person. What
`rag_graph` raises passes through unchanged: `serve_app.responses` answers both trees.
"""

from __future__ import annotations

from contracts.errors import Code, CodedError
from rag_graph.state import Passage


class ServeAppError(CodedError):
    """Base of the tree."""


class SettingsError(ServeAppError):
    """A setting cannot be as it is."""


class RequestError(ServeAppError):
    """The request cannot be served as it was sent."""

    default_code = Code.INVALID_REQUEST


class UnavailableError(ServeAppError):
    """A part of the application is starting, gone or full."""

    default_code = Code.NOT_READY


class BusyError(UnavailableError):
    """Too many questions wait for the LLM service."""

    default_code = Code.OVERLOADED


class DegradedError(ServeAppError):
    """No answer could be generated; these passages were found for it."""

    default_code = Code.NOT_READY

    def __init__(
        self,
        message: str,
        code: str | None = None,
        retry_after: float | None = None,
        passages: tuple[Passage, ...] = (),
    ) -> None:
        super().__init__(message, code, None, retry_after)
        self.args = (message, code, retry_after, passages)
        self.passages = passages
