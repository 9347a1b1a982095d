"""Entry point: serve the OpenAI contract over HTTP, with the engine's ranks under mpirun.

    python -m llm_backend.inference_server

Settings are `LLM_*` environment variables (`llm_backend.settings`). What cannot work is refused
before anything heavy starts, with one sentence on stderr and an exit code of its own
(`llm_backend.errors`). SIGINT and SIGTERM drain: running requests finish within
`LLM_DRAIN_TIMEOUT_S`, then everything ends; a second signal ends it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Iterator, Sequence

import uvicorn

from contracts.tls import Renewal
from llm_backend import settings as settings_module
from llm_backend.api.app import create_app
from llm_backend.api.dispatcher import Dispatcher
from llm_backend.api.service import Service
from llm_backend.api.tls import RELOAD_S, server_tls
from llm_backend.errors import AddressInUseError, StartupError
from llm_backend.models import store
from llm_backend.models.tokenizer import Tokenizer
from llm_backend.runtime import launch
from llm_backend.runtime.supervisor import Supervisor
from llm_backend.settings import LlmSettings

_BACKLOG = 2048
_SEND_BUFFER_BYTES = 64 * 1024
_KEEPALIVE_S = 30

log = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """uvicorn without signal handlers of its own: draining comes first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def main(worker: Sequence[str] = launch.WORKER) -> int:
    """Serve until a signal; return the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        settings = settings_module.load()
        store.check(settings)
        mpirun = launch.find_mpirun(settings)
        tls = server_tls(settings)
        with listen(settings) as listener:
            dispatcher = Dispatcher(settings)
            supervisor = Supervisor(settings, dispatcher, mpirun, worker)
            service = Service(settings, dispatcher, supervisor)
            uvicorn_loop = uvicorn.Config(app="", loop="auto").get_loop_factory()
            with asyncio.Runner(loop_factory=uvicorn_loop) as runner:
                runner.run(_serve(service, listener, tls))
    except StartupError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


def listen(settings: LlmSettings) -> socket.socket:
    """Return a socket that listens at the settings' address.

    Raises:
        AddressInUseError: the address is taken, or is none of this host's.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # The kernel cuts a connection whose client stops reading; every accepted socket inherits it.
    timeout_ms = int(settings.send_timeout_s * 1000)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout_ms)
    # A client whose host vanished never says goodbye: ask idle connections now and then.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_S)
    # Left to itself, the kernel buffers megabytes for a client that does not read.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise AddressInUseError(
            f"Cannot listen on {settings.host}:{settings.port} ({error.strerror}). End what uses "
            "it, or set LLM_HOST and LLM_PORT."
        ) from error
    listener.setblocking(False)
    return listener


async def _serve(service: Service, listener: socket.socket, tls: Renewal | None) -> None:
    """Run HTTP and engine side by side until a signal comes or one of them fails."""
    server = _Server(_http_config(service, tls))
    renewal = asyncio.create_task(tls.follow(RELOAD_S)) if tls is not None else None
    http = asyncio.create_task(server.serve(sockets=[listener]))
    engine = asyncio.create_task(_run_engine(service))
    stopping = _on_signals()
    log.info("Listening on %s port %d.", *listener.getsockname()[:2])
    try:
        signalled = asyncio.create_task(stopping.get())
        await asyncio.wait({http, engine, signalled}, return_when=asyncio.FIRST_COMPLETED)
        if signalled.done():
            await _drain(service, stopping)
    finally:
        await _end(service, server, http, engine)
        if renewal is not None:
            renewal.cancel()
    if not engine.cancelled() and (error := engine.exception()) is not None:
        raise error


def _http_config(service: Service, tls: Renewal | None) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(service),
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        ssl_context_factory=(lambda _config, _default: tls.context) if tls is not None else None,
        timeout_graceful_shutdown=2,
    )


async def _run_engine(service: Service) -> None:
    """Prepare the model's files, then keep an engine running on them."""
    supervisor = service.supervisor
    directory = await asyncio.to_thread(store.resolve, service.settings, supervisor.preparing)
    service.tokenizer = await asyncio.to_thread(Tokenizer, directory)
    await supervisor.run(directory)


def _on_signals() -> asyncio.Queue[int]:
    """Return a queue into which SIGINT and SIGTERM are put."""
    queue: asyncio.Queue[int] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, queue.put_nowait, number)
    return queue


async def _drain(service: Service, stopping: asyncio.Queue[int]) -> None:
    """Admit nothing more; wait for what runs, at most the set time or until a second signal."""
    log.info("Draining %d sequences.", service.dispatcher.in_flight)
    service.dispatcher.draining = True
    service.supervisor.drain()
    drained = asyncio.create_task(service.dispatcher.drained())
    again = asyncio.create_task(stopping.get())
    await asyncio.wait(
        {drained, again},
        timeout=service.settings.drain_timeout_s,
        return_when=asyncio.FIRST_COMPLETED,
    )
    drained.cancel()
    again.cancel()


async def _end(
    service: Service, server: _Server, http: asyncio.Task[None], engine: asyncio.Task[None]
) -> None:
    """Abort what still runs, with an answer; then HTTP, then the engine."""
    service.dispatcher.draining = True
    service.dispatcher.fail_all("This replica is shutting down; try again.")
    server.should_exit = True
    await asyncio.wait({http})
    service.close()
    service.supervisor.stop()
    if not service.supervisor.running:
        engine.cancel()  # the model's files are still being prepared
    await asyncio.wait({engine})


if __name__ == "__main__":
    sys.exit(main())
