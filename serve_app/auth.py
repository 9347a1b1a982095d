"""Who is asking, and what they may do: API keys, each of one tenant.

The file that SERVE_API_KEYS_FILE names holds, for each key, its SHA-256 and what it may do:

    {"keys": [{"sha256": "…64 hex digits…", "tenant": "acme",
               "rights": ["ask", "ingest"], "collections": ["acme-docs"],
               "requests_per_minute": 60, "tokens_per_minute": 100000, "weight": 2}]}

Keys are long random strings, so a plain hash cannot be searched through. A tenant reaches exactly
the collections that its key names; of any other it learns nothing, not even that it exists.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from contracts import errors
from contracts.errors import Code
from serve_app.errors import RequestError, SettingsError

Right = Literal["ask", "ingest", "admin"]
ANY = "*"
BEARER = "bearer "


class Key(BaseModel):
    """One API key: whose it is, and what it may do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    tenant: Annotated[str, Field(min_length=1, max_length=64)]
    rights: frozenset[Right]
    collections: frozenset[str]
    """Names of collections; "*" stands for all."""
    requests_per_minute: Annotated[int | None, Field(ge=1)] = None
    """Of the tenant, with all its keys; None for no limit."""
    tokens_per_minute: Annotated[int | None, Field(ge=1)] = None
    """Tokens of its prompts and answers; None for no limit."""
    weight: Annotated[float, Field(ge=0.01, le=100)] = 1.0
    """Share of the LLM service that the tenant gets while others want it too."""

    def sees(self, collection: str) -> bool:
        """Whether the key may reach `collection`."""
        return bool(self.collections & {collection, ANY})

    def check(self, right: Right, collection: str | None) -> None:
        """Return if the key may do this; None where no collection is touched.

        Raises:
            RequestError: it may not. A collection that is not its own is "not found".
        """
        if right not in self.rights:
            message = f"This API key does not have the right to {right}. Ask for one that does."
            raise RequestError(message, Code.FORBIDDEN)
        if collection is not None and not self.sees(collection):
            message = f"There is no collection {collection!r}; ingest a document into it first."
            raise RequestError(message, Code.NOT_FOUND, "collection")


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: tuple[Key, ...]


EVERYBODY = Key(
    sha256="0" * 64,
    tenant="local",
    rights=frozenset({"ask", "ingest", "admin"}),
    collections=frozenset({ANY}),
)
"""Who asks where no keys are set: a gateway of one's own machine."""


class Keys:
    """The keys that a gateway knows."""

    def __init__(self, keys: tuple[Key, ...], *, required: bool = False) -> None:
        """Make a set of keys; an empty one that is not `required` lets everybody do everything."""
        self._keys = keys
        self.required = required or bool(keys)

    def of(self, sent: Mapping[str, str]) -> Key:
        """Return the key that a request with the headers `sent` carries.

        Every known key is compared, in constant time, so that the time tells nothing.

        Raises:
            RequestError: it carries none, or none that is known.
        """
        if not self.required:
            return EVERYBODY
        given = bearer(sent)
        digest = hashlib.sha256(given.encode()).hexdigest()
        matches = [key for key in self._keys if hmac.compare_digest(key.sha256, digest)]
        if not given or not matches:
            message = "Send a valid API key in the header Authorization: Bearer …"
            raise RequestError(message, Code.UNAUTHORIZED)
        return matches[0]


def load(path: Path | None, *, required: bool = False) -> Keys:
    """Return the keys of the file at `path`, or none without one.

    Args:
        path: the file.
        required: whether requests need a key, or a token in its place, also without a file.

    Raises:
        SettingsError: the file cannot be read or is not of its form.
    """
    if path is None:
        return Keys((), required=required)
    try:
        found = _File.model_validate_json(path.read_bytes())
    except OSError as error:
        reason = f"SERVE_API_KEYS_FILE={path} cannot be read: {error.strerror}."
        raise SettingsError(reason) from error
    except ValidationError as error:
        reason = errors.from_validation_error(error).message
        raise SettingsError(f"SERVE_API_KEYS_FILE={path}: {reason}") from error
    if not found.keys:
        raise SettingsError(f"SERVE_API_KEYS_FILE={path} has no keys; add one, or unset it.")
    return Keys(found.keys)


def bearer(sent: Mapping[str, str]) -> str:
    """Return the bearer token of a request with the headers `sent`, or "" without one."""
    value = sent.get("authorization", "")
    return value[len(BEARER) :].strip() if value.lower().startswith(BEARER) else ""
