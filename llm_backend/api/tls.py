"""TLS for the API: certificates are checked before anything starts, and reloaded when renewed."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

from llm_backend.errors import SettingsError
from llm_backend.settings import LlmSettings

RELOAD_S = 5.0
"""How often the certificate's files are looked at; cert-manager renews them in place."""

log = logging.getLogger(__name__)


class Tls:
    """A server context that follows its files.

    Args:
        cert: PEM chain.
        key: PEM key of `cert`.
        client_ca: PEM authority that clients must present a certificate of; None asks for none.

    Raises:
        SettingsError: a file cannot be read or does not fit the others.
    """

    def __init__(self, cert: Path, key: Path, client_ca: Path | None) -> None:
        self._cert = cert
        self._key = key
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            self._load()
            if client_ca is not None:
                self.context.load_verify_locations(client_ca)
                self.context.verify_mode = ssl.CERT_REQUIRED
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(
                f"The TLS files cannot be used ({error}): check LLM_TLS_CERT={cert}, "
                f"LLM_TLS_KEY={key} and LLM_TLS_CLIENT_CA={client_ca}."
            ) from error

    @classmethod
    def of(cls, settings: LlmSettings) -> Tls | None:
        """Return what the settings ask for, or None for plain HTTP."""
        if settings.tls_cert is None or settings.tls_key is None:
            return None
        return cls(settings.tls_cert, settings.tls_key, settings.tls_client_ca)

    async def follow(self, every_s: float = RELOAD_S) -> None:
        """Reload a renewed certificate, for ever; new connections get it."""
        while True:
            await asyncio.sleep(every_s)
            if self._stamp() != self._loaded:
                self._reload()

    def _reload(self) -> None:
        try:
            self._load()
        except (OSError, ssl.SSLError) as error:
            # Half of a renewal may be there: the old certificate serves until the next look.
            log.warning("The renewed TLS certificate cannot be used yet: %s", error)
        else:
            log.info("Serving the renewed TLS certificate %s.", self._cert)

    def _load(self) -> None:
        stamp = self._stamp()
        # First into a context that nobody uses: a pair that does not fit would leave ours broken.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self._cert, self._key)
        self.context.load_cert_chain(self._cert, self._key)
        self._loaded = stamp

    def _stamp(self) -> tuple[tuple[int, int], ...] | None:
        try:
            return tuple((s.st_mtime_ns, s.st_ino) for s in (self._cert.stat(), self._key.stat()))
        except FileNotFoundError:
            return None
