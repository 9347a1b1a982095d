"""Tokens of a real provider on a real socket, against the gateway's routes."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import httpx
import pytest

from serve_app import oidc
from serve_app.api import create_api
from serve_app.auth import Keys
from serve_app.services import Services
from serve_app.settings import ServeSettings
from tests.support.issuer import AUDIENCE, Issuer, issuer
from tests.unit.serve_app.conftest import Fakes
from tests.unit.serve_app.test_auth import key


@pytest.fixture
def provider() -> Iterator[Issuer]:
    with issuer() as running:
        yield running


@asynccontextmanager
async def gateway(provider: Issuer) -> AsyncIterator[httpx.AsyncClient]:
    settings = ServeSettings(oidc_issuer=provider.url, oidc_audience=AUDIENCE)
    checker, fakes = oidc.Provider(settings), Fakes()
    made = fakes.services(Keys((key("zeta"),), required=True))
    services = Services(**{**vars(made), "oidc": checker})
    transport = httpx.ASGITransport(create_api(services))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client
    await checker.aclose()
    await fakes.memory.aclose()


async def search(client: httpx.AsyncClient, token: str, collection: str = "acme-docs") -> int:
    sent = {"authorization": f"Bearer {token}"}
    body = {"query": "?", "collection": collection}
    return (await client.post("/v1/search", json=body, headers=sent)).status_code


async def test_claims_say_who_may_do_what(provider: Issuer) -> None:
    async with gateway(provider) as client:
        assert await search(client, provider.token()) == 200
        assert await search(client, provider.token(), "zeta-docs") == 404
        assert await search(client, provider.token(collections=["*"]), "zeta-docs") == 200
        assert await search(client, provider.token(roles="ask other")) == 200
        assert await search(client, provider.token(roles=["Other.Role"])) == 403
        assert await search(client, provider.token(roles=None)) == 403
        assert await search(client, provider.token(collections=None)) == 404
        assert await search(client, "zeta", "zeta-docs") == 200, "API keys go on working"
    assert provider.fetches == 1


def with_header(provider: Issuer, algorithm: str) -> str:
    """Return a token's head and claims under another algorithm, without a signature."""
    _, claims, _ = provider.token().split(".")
    return f"{encoded(json.dumps({'alg': algorithm, 'kid': 'k1'}).encode())}.{claims}"


def encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def hmac_of_the_public_key(provider: Issuer) -> str:
    """The classic confusion: the public key, which everybody knows, taken as a secret."""
    signed = with_header(provider, "HS256")
    secret = json.dumps(provider.public()).encode()
    return f"{signed}.{encoded(hmac.digest(secret, signed.encode(), 'sha256'))}"


async def test_what_is_not_right_is_refused(provider: Issuer) -> None:
    with issuer() as other:
        whole = provider.token()
        cases = {
            "expired": provider.token(exp=time.time() - 60),
            "not yet valid": provider.token(nbf=time.time() + 600),
            "without an end": provider.token(exp=None),
            "of another audience": provider.token(aud="api://other"),
            "without an audience": provider.token(aud=None),
            "of another issuer": provider.token(iss="https://evil.example"),
            "signed by another": other.token(iss=provider.url),
            "unsigned": with_header(provider, "none") + ".",
            "HMAC of the public key": hmac_of_the_public_key(provider),
            "changed": whole[:-8] + "AAAAAAAA",
            "without a tenant": provider.token(tid=None),
            "with a strange tenant": provider.token(tid=["acme"]),
            "not a token": "a.b.c",
            "nothing": "",
        }
        async with gateway(provider) as client:
            statuses = {name: await search(client, token) for name, token in cases.items()}
    assert set(statuses.values()) == {401}, statuses


async def test_keys_rotate(provider: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oidc, "LEAST_REFETCH_S", 0.0)
    async with gateway(provider) as client:
        old = provider.token()
        assert await search(client, old) == 200
        provider.rotate()
        assert await search(client, provider.token()) == 200
        assert await search(client, old) == 401, "the old key is no longer shown"
        assert provider.fetches == 3


async def test_unknown_keys_do_not_hammer_the_provider(provider: Issuer) -> None:
    with issuer() as other:
        other.rotate()
        async with gateway(provider) as client:
            for _ in range(20):
                assert await search(client, other.token(iss=provider.url)) == 401
    assert provider.fetches == 1


async def test_a_provider_that_is_down(provider: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oidc, "LEAST_REFETCH_S", 0.0)
    async with gateway(provider) as client:
        provider.down = True
        assert await search(client, provider.token()) == 503
        provider.down = False
        known = provider.token()
        assert await search(client, known) == 200
        provider.down = True
        assert await search(client, known) == 200, "known keys stay good"
