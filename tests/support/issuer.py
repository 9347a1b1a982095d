"""An OpenID Connect provider on a real socket: discovery, keys, tokens; it rotates and fails."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

AUDIENCE = "api://isthmus"


class Issuer:
    """One provider. `fetches` counts how often its keys were asked for."""

    def __init__(self) -> None:
        self.down = False
        self.fetches = 0
        self._number = 0
        self.rotate()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body, status = outer._page(self.path)
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def rotate(self) -> None:
        """Sign with a new key from now on, and show no other."""
        self._number += 1
        self._private = (
            rsa.generate_private_key(65537, 2048)
            if self._number % 2
            else ec.generate_private_key(ec.SECP256R1())
        )

    @property
    def _algorithm(self) -> str:
        return "RS256" if self._number % 2 else "ES256"

    def token(self, **changes: Any) -> str:
        """Return a token of tenant acme; a change to None leaves the claim out."""
        claims = {
            "iss": self.url,
            "aud": AUDIENCE,
            "exp": time.time() + 300,
            "tid": "acme",
            "roles": ["ask", "ingest", "Other.Role"],
            "collections": ["acme-docs"],
            **changes,
        }
        present = {name: value for name, value in claims.items() if value is not None}
        header = {"kid": f"k{self._number}"}
        return jwt.encode(present, self._private, self._algorithm, header)

    def public(self) -> dict[str, Any]:
        """Return the key that it shows, as JSON Web Key."""
        kind = jwt.get_algorithm_by_name(self._algorithm)
        shown = json.loads(kind.to_jwk(self._private.public_key()))
        return {**shown, "kid": f"k{self._number}", "use": "sig", "alg": self._algorithm}

    def _page(self, path: str) -> tuple[bytes, int]:
        if self.down:
            return b"", 500
        if path.endswith("openid-configuration"):
            return json.dumps({"issuer": self.url, "jwks_uri": f"{self.url}/keys"}).encode(), 200
        self.fetches += 1
        return json.dumps({"keys": [self.public()]}).encode(), 200


@contextmanager
def issuer() -> Iterator[Issuer]:
    """Run a provider until the block ends."""
    provider = Issuer()
    thread = threading.Thread(target=provider.server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield provider
    finally:
        provider.server.shutdown()
        thread.join()
        provider.server.server_close()
