"""A small HTTP service on a socket that answers JSON with JSON."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Endpoint(ThreadingHTTPServer):
    """Answers every POST with what `answer` makes of its body, after the statuses of `failures`."""

    def __init__(self, answer: Callable[[dict[str, Any]], Any]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.failures: list[int] = []
        self.wait_s = 0.0
        self.seen: list[tuple[str, str | None, dict[str, Any]]] = []
        """Path, authorization and body of each request."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((self.path, self.headers["Authorization"], body))
        time.sleep(self.server.wait_s)
        status = self.server.failures.pop(0) if self.server.failures else 200
        answer = json.dumps(self.server.answer(body)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its base names it
        """Tests print nothing."""


@contextmanager
def serving(answer: Callable[[dict[str, Any]], Any]) -> Iterator[Endpoint]:
    """Run an endpoint while the block runs."""
    server = Endpoint(answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
