"""The error envelope that every Isthmus HTTP surface answers with, in OpenAI's form.

    {"error": {"message": ..., "type": ..., "code": ..., "param": ...}}

`message` is a sentence for a person: what went wrong, where, what to do next. `code` is for
programs and never changes its meaning. The same body is sent in-band, as an SSE frame, when a
stream fails after its status line has left.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails


class ErrorBody(BaseModel):
    """What went wrong. `param` names the request's field at fault, when one is."""

    model_config = ConfigDict(frozen=True)

    message: str
    type: str
    code: str
    param: str | None = None


class ErrorEnvelope(BaseModel):
    """The whole body of an error response."""

    model_config = ConfigDict(frozen=True)

    error: ErrorBody


class Code:
    """Machine-readable codes shared by both sides, with the HTTP status each is sent with."""

    INVALID_REQUEST = "invalid_request"
    UNSUPPORTED_FIELD = "unsupported_field"
    INVALID_JSON = "invalid_json"
    CONTEXT_LENGTH_EXCEEDED = "context_length_exceeded"
    UNAUTHORIZED = "invalid_api_key"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    MODEL_NOT_FOUND = "model_not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    REQUEST_TIMEOUT = "deadline_exceeded"
    CONFLICT = "conflict"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    UNREADABLE_DOCUMENT = "unreadable_document"
    RATE_LIMITED = "rate_limited"
    INTERNAL = "internal_error"
    UPSTREAM_ERROR = "upstream_error"
    OVERLOADED = "overloaded"
    NOT_READY = "not_ready"
    UNAVAILABLE = "unavailable"
    """A part that the service stands on does not work: somebody may have to look after it."""


STATUS: dict[str, int] = {
    Code.INVALID_REQUEST: 400,
    Code.UNSUPPORTED_FIELD: 400,
    Code.INVALID_JSON: 400,
    Code.CONTEXT_LENGTH_EXCEEDED: 400,
    Code.UNAUTHORIZED: 401,
    Code.FORBIDDEN: 403,
    Code.NOT_FOUND: 404,
    Code.MODEL_NOT_FOUND: 404,
    Code.METHOD_NOT_ALLOWED: 405,
    Code.CONFLICT: 409,
    Code.PAYLOAD_TOO_LARGE: 413,
    Code.UNSUPPORTED_MEDIA_TYPE: 415,
    Code.UNREADABLE_DOCUMENT: 422,
    Code.RATE_LIMITED: 429,
    Code.INTERNAL: 500,
    Code.UPSTREAM_ERROR: 502,
    Code.OVERLOADED: 503,
    Code.NOT_READY: 503,
    Code.UNAVAILABLE: 503,
    Code.REQUEST_TIMEOUT: 504,
}

RETRYABLE = frozenset({Code.RATE_LIMITED, Code.OVERLOADED, Code.NOT_READY, Code.UPSTREAM_ERROR})
"""Codes after which the same request may succeed if sent again later."""


class CodedError(Exception):
    """An error that knows its envelope: the sentence, a `Code`, the field at fault.

    Its arguments are positional only: keyword-only ones do not survive the pickling that Ray does.
    """

    default_code: ClassVar[str] = Code.INTERNAL

    def __init__(
        self,
        message: str,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, code, param, retry_after)
        self.message = message
        self.code = code or self.default_code
        self.param = param
        self.retry_after = retry_after
        """Seconds after which trying again is worth it."""

    def __str__(self) -> str:
        return self.message


_TRIED = re.compile(r"str|(list|function-after)\[.*\]")
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def body(code: str, message: str, param: str | None = None) -> ErrorBody:
    """Return the error of `code`, its `type` derived from the code's status.

    Raises:
        KeyError: `code` is not one of `Code`.
    """
    status = STATUS[code]
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return ErrorBody(message=message, type=kind, code=code, param=param)


def envelope(code: str, message: str, param: str | None = None) -> ErrorEnvelope:
    """Return the whole response body for `code`."""
    return ErrorEnvelope(error=body(code, message, param))


def from_validation(errors: Sequence[ErrorDetails]) -> ErrorBody:
    """Return the first of pydantic's complaints as one sentence that names the field.

    Args:
        errors: `ValidationError.errors()` or FastAPI's `RequestValidationError.errors()`;
            a leading "body" in a location is FastAPI's and is dropped.
    """
    first = errors[0]
    if first["type"] == "json_invalid":
        detail = first.get("ctx", {}).get("error", first["msg"])
        return body(Code.INVALID_JSON, f"The request body is not valid JSON: {detail}.")
    param = _param(first["loc"])
    if first["type"] == "extra_forbidden":
        return body(
            Code.UNSUPPORTED_FIELD,
            f"The field {param!r} is not supported; remove it from the request.",
            param,
        )
    where = f"Field {param!r}" if param else "The request body"
    reason = first["msg"].removeprefix("Value error, ").rstrip(".")
    return body(Code.INVALID_REQUEST, f"{where}: {reason[:1].lower()}{reason[1:]}.", param)


def of_settings(error: ValidationError, prefix: str) -> str:
    """Return the first complaint about settings, as a sentence that names the variable.

    Args:
        error: raised by pydantic-settings.
        prefix: of the variables, such as "RAG_".
    """
    first = error.errors(include_url=False, include_input=False)[0]
    reason = first["msg"].removeprefix("Value error, ").rstrip(".")
    if not first["loc"]:
        return f"Settings that do not fit each other: {reason}."
    name = f"{prefix}{_param(first['loc'])}".upper()
    return f"{name}: {reason[:1].lower()}{reason[1:]}."


def from_validation_error(error: ValidationError) -> ErrorBody:
    """Return `from_validation` of a pydantic error."""
    return from_validation(error.errors(include_url=False, include_input=False))


def _param(location: Sequence[Any]) -> str | None:
    """Render ("messages", 0, "content") as "messages[0].content".

    Left out is what pydantic adds where a field may be of several types: which of them it tried.
    """
    text = ""
    for i, part in enumerate(location):
        if (i == 0 and part == "body") or (i and isinstance(part, str) and _TRIED.fullmatch(part)):
            continue
        if isinstance(part, int):
            text += f"[{part}]"
        elif part:
            text += f".{part}" if text else str(part)
    return text or None
