"""A TCP proxy on loopback that counts what it passes on, and stops passing on at a limit."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Tap:
    """Passes connections on to a port of 127.0.0.1.

    Attributes:
        passed: bytes that went to clients.
        full: set once `limit` bytes did; what is more is held back until the block ends.
    """

    def __init__(self, port: int, limit: int | None = None) -> None:
        self._target, self._limit = port, limit
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.passed = 0
        self.full = threading.Event()
        self._lock, self._over = threading.Lock(), threading.Event()
        self._sockets = [self._listener]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> Tap:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for end in self._sockets:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in self._sockets:
            end.close()

    def cut(self) -> None:
        """Break all connections off; new ones are passed on again."""
        for end in self._sockets[1:]:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while not self._over.is_set():
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [client, server]
                for source, sink in ((client, server), (server, client)):
                    thread = threading.Thread(target=self._pump, args=(source, sink, client))
                    self._threads.append(thread)
                    thread.start()

    def _pump(self, source: socket.socket, sink: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(65536):
                if sink is client and not self._may_pass(len(piece)):
                    self._over.wait()
                    return
                sink.sendall(piece)
            sink.shutdown(socket.SHUT_WR)

    def _may_pass(self, size: int) -> bool:
        with self._lock:
            if self._limit is not None and self.passed + size > self._limit:
                self.full.set()
                return False
            self.passed += size
            return True
