"""Mutual TLS across the narrow strip: each side shows a certificate and checks the other's name.

A client checks the server's name as TLS has it. That a server checks its client's name is ours: the
`ssl` module knows no such hook, but lets a context name the class of its connections. Certificates
are replaced while the process runs (`Renewal`): new connections show the new one, old ones go on.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TlsFiles:
    """PEM files of one side: its certificate chain, its key, and the other side's authority.

    Without an authority a client trusts the system's, and a server asks for no certificate.
    """

    cert: Path
    key: Path
    ca: Path | None

    def stamp(self) -> tuple[tuple[int, int], ...]:
        """Return what changes whenever a file is replaced.

        Raises:
            OSError: a file is not there.
        """
        found = [path.stat() for path in (self.cert, self.key, self.ca) if path is not None]
        # A Secret's files are links into a new directory: the inode changes, the time may not.
        return tuple((status.st_mtime_ns, status.st_ino) for status in found)


class Renewal:
    """A context that follows its files, which cert-manager replaces in place."""

    def __init__(self, files: TlsFiles, make: Callable[[TlsFiles], ssl.SSLContext]) -> None:
        """Make the context.

        Args:
            files: what it follows.
            make: `client_context`, or a `server_context` with its names.

        Raises:
            OSError: a file cannot be read.
            ssl.SSLError: a file is not PEM, or key and certificate do not belong together.
        """
        self._files = files
        self._seen = files.stamp()  # before reading: a renewal meanwhile is then noticed
        self.context = make(files)

    def look(self) -> None:
        """Read the files again if one was replaced; broken ones are left for the next look."""
        try:
            now = self._files.stamp()
            if now == self._seen:
                return
            refresh(self.context, self._files)
        except (OSError, ssl.SSLError) as error:
            # Half of a renewal may be there: the old certificate is shown until the next look.
            log.warning(
                "Keeping the old certificate, %s is not usable yet: %s", self._files.cert, error
            )
        else:
            self._seen = now
            log.info("Read the renewed certificate %s.", self._files.cert)

    async def follow(self, every_s: float) -> None:
        """Look every so many seconds, until cancelled."""
        while True:
            await asyncio.sleep(every_s)
            self.look()


def server_context(files: TlsFiles, client_names: Collection[str] | None = None) -> ssl.SSLContext:
    """Return a server's context; with an authority, only its clients are admitted.

    Args:
        files: the server's own.
        client_names: DNS names of which a client's certificate must bear at least one; None
            admits every client of the authority.

    Raises:
        OSError: a file cannot be read.
        ssl.SSLError: a file is not PEM, or key and certificate do not belong together.
        ValueError: names without an authority to vouch for them, or an empty list of names,
            which would admit nobody.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, files)
    if files.ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    elif client_names is not None:
        raise ValueError("Clients' names can only be checked with an authority.")
    if client_names is not None:
        if not client_names:
            raise ValueError("Name at least one client that may connect.")
        _check_names(context, frozenset(client_names))
    return context


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """Return a client's context, which shows its certificate and checks the server's name.

    Raises:
        OSError: a file cannot be read.
        ssl.SSLError: a file is not PEM, or key and certificate do not belong together.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT, files)  # this protocol checks names by itself
    if files.ca is None:
        context.load_default_certs()
    return context


def refresh(context: ssl.SSLContext, files: TlsFiles) -> None:
    """Read the files again; connections made from now on use them.

    Raises:
        OSError: a file cannot be read.
        ssl.SSLError: a file is broken; the context goes on with what it had.
    """
    # Into a throw-away context first: a broken file must not leave the real one half changed.
    _load(ssl.SSLContext(context.protocol), files)
    _load(context, files)


def _context(protocol: int, files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    _load(context, files)
    return context


def _load(context: ssl.SSLContext, files: TlsFiles) -> None:
    context.load_cert_chain(files.cert, files.key)
    if files.ca is not None:
        context.load_verify_locations(files.ca)


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
