"""Everything that `llm_backend` raises on purpose.

    LlmError
    ├── StartupError                  the service cannot start; `exit_code` says which way
    │   ├── SettingsError             exit 2: a setting is wrong
    │   ├── ModelNotFoundError        exit 3: no such model or directory
    │   ├── ModelInvalidError         exit 4: the model's directory lacks or breaks something
    │   ├── MpirunNotFoundError       exit 5: no mpirun
    │   ├── AddressInUseError         exit 6: the port is taken
    │   ├── EngineStartError          exit 7: the engine cannot run this model with these settings
    │   └── ModelFetchError           exit 8: storage refuses or is away, or the disk has no room
    └── RequestError                  one request cannot be answered; maps to an HTTP status
        ├── InvalidRequestError       the request is wrong: sending it again is useless
        │   ├── InvalidBodyError      its body does not validate
        │   ├── UnsupportedFieldError it uses what this service does not have
        │   └── ContextLengthError    prompt and answer do not fit the context
        ├── ModelUnknownError         another model than the one served was asked for
        ├── OverloadedError           the queue is full: try again later
        ├── NotReadyError             the engine is starting, draining or broken: likewise
        ├── UnauthorizedError         no or a wrong API key
        ├── PayloadTooLargeError      the body exceeds LLM_MAX_BODY_BYTES
        ├── SlowReaderError           the client does not read its stream
        └── EngineRejectedError       the engine ended the request: deadline, memory

`code` is one of `contracts.errors.Code`; `str(error)` is the sentence for a person.
"""

from __future__ import annotations

from typing import ClassVar

from contracts.errors import Code


class LlmError(Exception):
    """Base of the tree."""


class StartupError(LlmError):
    """The service cannot start. The process prints the message and ends with `exit_code`."""

    exit_code: ClassVar[int] = 1


class SettingsError(StartupError):
    """A setting is wrong."""

    exit_code = 2


class ModelNotFoundError(StartupError):
    """There is no such bundled model or directory."""

    exit_code = 3


class ModelInvalidError(StartupError):
    """The model's directory lacks a file, or a file in it is not what it should be."""

    exit_code = 4


class MpirunNotFoundError(StartupError):
    """There is no mpirun to start the ranks with."""

    exit_code = 5


class AddressInUseError(StartupError):
    """The address cannot be listened on."""

    exit_code = 6


class EngineStartError(StartupError):
    """The engine cannot run this model with these settings; trying again cannot help."""

    exit_code = 7


class ModelFetchError(StartupError):
    """The model cannot be fetched now: its storage refuses or is away, or the disk has no room."""

    exit_code = 8


class RequestError(LlmError):
    """One request cannot be answered. `param` names the request's field at fault."""

    code: str = Code.INTERNAL

    def __init__(
        self, message: str, param: str | None = None, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s


class InvalidRequestError(RequestError):
    """The request is wrong."""

    code = Code.INVALID_REQUEST


class InvalidBodyError(InvalidRequestError):
    """The request's body does not validate; its code says in which way."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message, param)
        self.code = code


class UnsupportedFieldError(InvalidRequestError):
    """The request uses a field or endpoint that this service does not have."""

    code = Code.UNSUPPORTED_FIELD


class ContextLengthError(InvalidRequestError):
    """Prompt and answer do not fit the model's context."""

    code = Code.CONTEXT_LENGTH_EXCEEDED


class ModelUnknownError(RequestError):
    """The request names a model that is not served here."""

    code = Code.MODEL_NOT_FOUND


class OverloadedError(RequestError):
    """The queue is full."""

    code = Code.OVERLOADED


class NotReadyError(RequestError):
    """The engine is starting, draining or broken."""

    code = Code.NOT_READY


class UnauthorizedError(RequestError):
    """The request carries no API key, or a wrong one."""

    code = Code.UNAUTHORIZED


class PayloadTooLargeError(RequestError):
    """The request's body is too large."""

    code = Code.PAYLOAD_TOO_LARGE


class SlowReaderError(RequestError):
    """The client does not read its stream as fast as tokens come."""

    code = Code.OVERLOADED


class EngineRejectedError(RequestError):
    """The engine ended the request without an answer, for a reason of its own."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
