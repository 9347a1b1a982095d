"""Bearer tokens of an OpenID Connect provider, such as Entra ID: who is asking, by signed claims.

The provider's keys are found through its discovery document, kept for SERVE_OIDC_KEYS_S, and
fetched anew when a token names one that is not among them: that is how providers rotate. Only
asymmetric signatures are accepted; `exp`, `iss` and `aud` have to be there and right.
https://openid.net/specs/openid-connect-discovery-1_0.html
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from typing import Any, get_args

import httpx
import jwt
from pydantic import ValidationError

from contracts.errors import Code
from serve_app.auth import Key, Right
from serve_app.errors import RequestError, UnavailableError
from serve_app.settings import ServeSettings

ALGORITHMS = frozenset(
    f"{family}{bits}" for family in ("RS", "PS", "ES") for bits in (256, 384, 512)
) | {"EdDSA"}
LEEWAY_S = 30.0
"""How far the provider's clock may be off."""
FETCH_TIMEOUT_S = 5.0
LEAST_REFETCH_S = 5.0
"""Tokens that name unknown keys make the keys be fetched no more often than this."""

log = logging.getLogger(__name__)


class Provider:
    """One issuer, and what its claims mean here."""

    def __init__(
        self, settings: ServeSettings, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        """Make a provider; nothing is fetched yet.

        Args:
            settings: `oidc_issuer` and `oidc_audience` have to be set.
            transport: in place of the network.
        """
        self._settings = settings
        self._http = httpx.AsyncClient(timeout=FETCH_TIMEOUT_S, transport=transport)
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = float("-inf")
        self._fetching = asyncio.Lock()

    async def key(self, token: str) -> Key:
        """Return what the bearer of `token` may do.

        Raises:
            RequestError: the token is expired, forged, for somebody else, or lacks a claim.
            UnavailableError: the provider's keys cannot be had.
        """
        try:
            signer = await self._signer(token)
            claims = jwt.decode(
                token,
                signer,
                algorithms=[signer.algorithm_name],
                audience=self._settings.oidc_audience,
                issuer=self._settings.oidc_issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.ExpiredSignatureError as error:
            raise _refused("it has expired; sign in again") from error
        except jwt.PyJWTError as error:
            raise _refused("it is not one of this service's provider for this service") from error
        return self._from(claims, token)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _signer(self, token: str) -> jwt.PyJWK:
        header = jwt.get_unverified_header(token)
        name = header.get("kid")
        age = time.monotonic() - self._fetched_at
        if age > self._settings.oidc_keys_s or (name not in self._keys and age > LEAST_REFETCH_S):
            await self._fetch(self._fetched_at)
        found = self._keys.get(name) if isinstance(name, str) else None
        if found is None or found.algorithm_name not in ALGORITHMS:
            raise jwt.InvalidKeyError("signed with a key that the provider does not show")
        return found

    async def _fetch(self, seen: float) -> None:
        """Fetch the keys, unless somebody else has done so since `seen`."""
        async with self._fetching:
            if self._fetched_at != seen:
                return
            try:
                where = await self._get(f"{self._issuer}/.well-known/openid-configuration")
                shown = await self._get(where["jwks_uri"])
                keys = [key for key in shown["keys"] if key.get("use", "sig") == "sig"]
                found = jwt.PyJWKSet(keys).keys
            except (httpx.HTTPError, ValueError, KeyError, TypeError, jwt.PyJWTError) as error:
                log.warning("The keys of %s cannot be fetched: %r", self._issuer, error)
                if not self._keys:
                    message = "The identity provider does not answer; try again in a moment."
                    raise UnavailableError(message) from error
            else:
                self._keys = {key.key_id: key for key in found if key.key_id is not None}
            self._fetched_at = time.monotonic()

    async def _get(self, url: str) -> Any:
        response = await self._http.get(url)
        return response.raise_for_status().json()

    @property
    def _issuer(self) -> str:
        return self._settings.oidc_issuer.rstrip("/")

    def _from(self, claims: dict[str, Any], token: str) -> Key:
        settings = self._settings
        rights = _words(claims.get(settings.oidc_rights_claim))
        try:
            return Key(
                sha256=hashlib.sha256(token.encode()).hexdigest(),
                tenant=claims.get(settings.oidc_tenant_claim, ""),
                rights=frozenset(right for right in get_args(Right) if right in rights),
                collections=frozenset(_words(claims.get(settings.oidc_collections_claim))),
                requests_per_minute=settings.oidc_requests_per_minute,
                tokens_per_minute=settings.oidc_tokens_per_minute,
            )
        except ValidationError as error:
            raise _refused(f"its claim {settings.oidc_tenant_claim!r} names no tenant") from error


def looks_like_token(bearer: str) -> bool:
    """Whether `bearer` has the form of a signed token, not of an API key."""
    return bearer.count(".") == 2


def _words(claim: object) -> list[str]:
    """Return a claim's values: a list of strings, or one string of words."""
    if isinstance(claim, str):
        return claim.split()
    return [word for word in claim if isinstance(word, str)] if isinstance(claim, list) else []


def _refused(reason: str) -> RequestError:
    return RequestError(f"This bearer token is refused: {reason}.", Code.UNAUTHORIZED)
