"""Mutual TLS across the narrow strip: each side shows a certificate and checks the other's name.

A client checks the server's name as TLS has it. That a server checks its client's name is ours: the
`ssl` module knows no such hook, but lets a context name the class of its connections. Certificates
are replaced while the process runs (`refresh`): new connections show the new one, old ones go on.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TlsFiles:
    """PEM files of one side: its certificate chain, its key, and the other side's authority."""

    cert: Path
    key: Path
    ca: Path

    def stamp(self) -> tuple[int, ...]:
        """Return what changes whenever a file is replaced."""
        return tuple(path.stat().st_mtime_ns for path in (self.cert, self.key, self.ca))


def server_context(files: TlsFiles, client_names: Collection[str]) -> ssl.SSLContext:
    """Return a server's context that admits clients of the authority with one of the names.

    Args:
        files: the server's own.
        client_names: DNS names of which a client's certificate must bear at least one.

    Raises:
        OSError: a file cannot be read.
        ssl.SSLError: a file is not PEM, or key and certificate do not belong together.
        ValueError: no name is given, which would admit nobody.
    """
    if not client_names:
        raise ValueError("Name at least one client that may connect.")
    context = _context(ssl.PROTOCOL_TLS_SERVER, files)
    context.verify_mode = ssl.CERT_REQUIRED
    _check_names(context, frozenset(client_names))
    return context


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """Return a client's context, which shows its certificate and checks the server's name.

    Raises:
        OSError: a file cannot be read.
        ssl.SSLError: a file is not PEM, or key and certificate do not belong together.
    """
    return _context(ssl.PROTOCOL_TLS_CLIENT, files)  # this protocol checks names by itself


def refresh(context: ssl.SSLContext, files: TlsFiles) -> None:
    """Read the files again; connections made from now on use them.

    Raises:
        OSError: a file cannot be read.
        ssl.SSLError: a file is broken; the context goes on with what it had.
    """
    # Into a throw-away context first: a broken file must not leave the real one half changed.
    ssl.SSLContext(context.protocol).load_cert_chain(files.cert, files.key)
    context.load_verify_locations(files.ca)
    context.load_cert_chain(files.cert, files.key)


async def keep_fresh(context: ssl.SSLContext, files: TlsFiles, every_s: float = 30.0) -> None:
    """Refresh a context whenever a file is replaced, until cancelled."""
    seen = files.stamp()
    while True:
        await asyncio.sleep(every_s)
        try:
            now = files.stamp()
            if now != seen:
                refresh(context, files)
                log.info("Read the new certificate %s.", files.cert)
            seen = now
        except (OSError, ssl.SSLError) as error:
            log.warning("Keeping the old certificate, %s is not usable: %s", files.cert, error)


def _context(protocol: int, files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(files.ca)
    context.load_cert_chain(files.cert, files.key)
    return context


def _check_names(context: ssl.SSLContext, names: frozenset[str]) -> None:
    """Make every connection of a context check its peer's name at the end of the handshake."""

    class CheckedObject(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            _require_name(self.getpeercert(), names)

    class CheckedSocket(ssl.SSLSocket):
        def do_handshake(self, block: bool = False) -> None:
            super().do_handshake(block)
            _require_name(self.getpeercert(), names)

    context.sslobject_class = CheckedObject
    context.sslsocket_class = CheckedSocket


def _require_name(certificate: Any, names: frozenset[str]) -> None:
    alternatives = (certificate or {}).get("subjectAltName", ())
    shown = {str(value) for kind, value in alternatives if kind == "DNS"}
    if not shown & names:
        raise ssl.SSLCertVerificationError(
            f"The peer's certificate names {sorted(shown)}, but none of {sorted(names)}."
        )
