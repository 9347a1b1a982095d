"""The transport to an LLM service that asks its clients for a certificate."""

from __future__ import annotations

import asyncio
import ssl

import httpx

from contracts import tls
from rag_graph.errors import LLMTlsError
from rag_graph.llm.transport import Transport

LOOK_S = 5.0
"""Seconds after which a request looks whether the certificate was renewed."""


class MutualTlsTransport(Transport):
    """Shows a certificate, checks the service's name, and takes renewed files as it goes.

    It looks at the files when a request comes, not by a task of its own: a client has no moment
    at which such a task could be started, and none is needed while nobody asks.
    """

    def __init__(self, files: tls.TlsFiles) -> None:
        """Read the files.

        Raises:
            LLMTlsError: a file cannot be read or does not fit the others.
        """
        try:
            self._renewal = tls.Renewal(files, tls.client_context)
        except (OSError, ssl.SSLError) as error:
            raise LLMTlsError(
                f"The TLS files for the LLM service cannot be used ({error}): check "
                f"RAG_LLM_TLS_CA={files.ca}, RAG_LLM_TLS_CERT={files.cert} and "
                f"RAG_LLM_TLS_KEY={files.key}."
            ) from error
        self._next_look = 0.0
        super().__init__(self._renewal.context)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, with the certificate of today if it needs a new connection."""
        now = asyncio.get_running_loop().time()
        if now >= self._next_look:
            self._next_look = now + LOOK_S
            self._renewal.look()
        return await super().handle_async_request(request)
