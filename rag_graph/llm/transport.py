"""The connections to an LLM service: httpx's interface over aiohttp.

Reading a token through aiohttp takes a third of the CPU of httpx's own transport, which parses in
Python and asks for a cancel scope at each read (docs/benchmarks.md).
"""

from __future__ import annotations

import ssl
from urllib.request import getproxies

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

PROXIED = frozenset({"http", "https"})
"""Schemes for which the environment can name a proxy."""
DNS_TTL_S = 1
"""Seconds after which a name's address is asked for anew: pods move."""


class Transport(AiohttpTransport):
    """Connections without a limit to their number: streams are long, and admission bounds them."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        """Make a transport; `context` is for TLS, None for httpx's own."""
        super().__init__(verify=context or True)

    def get_client(self) -> aiohttp.ClientSession:
        """Return the session, which proxies of the environment apply to, as in httpx.

        If there are any: else aiohttp would look for them, and for a netrc file, at each request,
        in a thread.

        No connection is used twice. A stream is left at its last frame, which ends its connection;
        and of the few others, aiohttp notices only by the event loop that the service closed them,
        under load too late: a request was sent on a closed one, and was lost.
        """
        connector = aiohttp.TCPConnector(
            limit=0, force_close=True, ssl=self.ssl_context, ttl_dns_cache=DNS_TTL_S
        )
        # Any variable that ends in _PROXY counts there, Serve's switch for HAProxy too.
        proxied = not PROXIED.isdisjoint(getproxies())
        jar = aiohttp.DummyCookieJar()
        return aiohttp.ClientSession(connector=connector, cookie_jar=jar, trust_env=proxied)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the head of the response.

        Raises:
            httpx.HTTPError: there is none.
        """
        try:
            return await super().handle_async_request(request)
        except aiohttp.ClientError as error:  # those that httpx-aiohttp does not know
            raise httpx.RemoteProtocolError(str(error), request=request) from error
