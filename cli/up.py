"""`isthmus up`: the whole system in the foreground."""

from __future__ import annotations

import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import httpx
import typer
from pydantic import ValidationError
from rich.console import Console

from cli import ingest
from cli.children import Child, stop_all
from cli.errors import ChildError, CliError, UsageError
from cli.gateway import Gateway
from cli.settings import CliSettings
from contracts.errors import ErrorEnvelope
from rag_graph.ingest.files import find

POLL_S = 0.2
PROBE_TIMEOUT_S = 2.0
STOP_TIMEOUT_S = 30.0


class StoppedError(CliError):
    """A signal asked for the end."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"Stopped by {signal.Signals(signum).name}.")
        self.status = 128 + signum


class Signals:
    """Notes the first SIGINT, SIGTERM or SIGHUP, and passes it on to the children at once.

    The handler raises nothing: an exception that happens to be raised inside a finalizer or a
    callback is lost, and the signal with it.
    """

    def __init__(self, children: Iterable[Child]) -> None:
        self._children = tuple(children)
        self._signum: int | None = None
        wanted = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # not under nohup
            wanted.append(signal.SIGHUP)
        for signum in wanted:
            signal.signal(signum, self._note)

    def check(self) -> None:
        """Return while no signal came.

        Raises:
            StoppedError: one did.
        """
        if self._signum is not None:
            raise StoppedError(self._signum)

    def _note(self, signum: int, _: FrameType | None) -> None:
        self._signum = self._signum or signum
        for child in self._children:
            child.stop()


def up(
    docs: Annotated[
        Path | None, typer.Option(help="Folder to ingest. Default: docs/, where there is one.")
    ] = None,
) -> None:
    """Start the LLM service and the gateway, ingest docs/, and serve until Ctrl-C."""
    settings = CliSettings()
    folder = _folder(docs)
    _check_ports(settings)
    children = _children(settings)
    console = Console(highlight=False, soft_wrap=True)
    signals = Signals(children.values())
    try:
        System(settings, children, signals, console).run(folder)
    except StoppedError as stopped:
        raise typer.Exit(stopped.status) from None
    except CliError:
        signals.check()  # what fails once the children were told to stop is no failure
        raise
    finally:
        console.print("Stopping …")
        stop_all(children.values(), STOP_TIMEOUT_S)


def _folder(docs: Path | None) -> Path | None:
    if docs is not None and not docs.is_dir():
        raise UsageError(f"There is no folder {docs} to ingest. Check --docs.")
    return docs or (Path("docs") if Path("docs").is_dir() else None)


def _children(settings: CliSettings) -> dict[str, Child]:
    """Return what has to be started, by the URL at which it answers."""
    gateway = Child(
        "gateway", ["serve_app.main"], settings.log_dir / f"gateway-{settings.serve_port}.log"
    )
    llm = Child(
        "LLM service",
        ["llm_backend.inference_server"],
        settings.log_dir / f"llm-{settings.llm_port}.log",
    )
    own_llm = {} if settings.rag_llm_url else {settings.llm_url: llm}
    return {**own_llm, settings.gateway_url: gateway}


def _check_ports(settings: CliSettings) -> None:
    """Refuse ports that are taken.

    Raises:
        UsageError: somebody listens there.
    """
    wanted = [("SERVE_PORT", settings.serve_host, settings.serve_port)]
    if not settings.rag_llm_url:
        wanted.append(("LLM_PORT", settings.llm_host, settings.llm_port))
    for name, host, port in wanted:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                raise UsageError(
                    f"Port {port} on {host} cannot be used ({error.strerror}). Stop what listens "
                    f"there, or set {name} to another port."
                ) from error


class System:
    """The processes on their way to being ready, and then on watch."""

    def __init__(
        self,
        settings: CliSettings,
        children: Mapping[str, Child],
        signals: Signals,
        console: Console,
    ) -> None:
        self._settings = settings
        self._children = children
        self._signals = signals
        self._console = console

    def run(self, folder: Path | None) -> NoReturn:
        """Start everything, ingest `folder`, and watch until something ends it.

        Raises:
            StoppedError: a signal came.
            ChildError: a child ended, or did not become ready in time.
        """
        started = time.monotonic()
        self._start()
        self._wait(self._settings.gateway_url, "/healthz")
        if folder is not None:
            self._ingest(folder)
        for url in self._children:
            self._wait(url, "/readyz")
        seconds = time.monotonic() - started
        self._console.print(f"Ready after {seconds:.0f} s.\n\n{_advice(self._settings)}")
        while True:
            self._pause()

    def _start(self) -> None:
        environment = {"RAG_LLM_URL": self._settings.llm_url}
        for url, child in self._children.items():
            self._signals.check()
            self._console.print(f"Starting the {child.title} on {url} (log: {child.log})")
            child.start(environment)

    def _pause(self) -> None:
        """Let a moment pass; raise if there is nothing more to wait for."""
        time.sleep(POLL_S)
        self._signals.check()
        for child in self._children.values():
            child.check()

    def _wait(self, url: str, path: str) -> None:
        """Return once `url` + `path` answers 200, having told of what it says until then."""
        child, said = self._children[url], ""
        limit = self._settings.isthmus_start_timeout_s
        deadline = time.monotonic() + limit
        while (state := _state(f"{url}{path}")) != "ok":
            if time.monotonic() > deadline:
                raise ChildError(
                    f"The {child.title} was not ready within {limit:g} s. See {child.log}, "
                    "or raise ISTHMUS_START_TIMEOUT_S."
                )
            if state and state != said:
                self._console.print(f"  {child.title}: {state}")
                said = state
            self._pause()

    def _ingest(self, folder: Path) -> None:
        files = list(find([folder]))
        with Gateway.of(self._settings) as gateway:
            ingest.ingest_all(self._console, gateway, files, "default")


def _state(url: str) -> str:
    """Return "ok", what the process says while it is not ready, or "" when it says nothing."""
    try:
        response = httpx.get(url, timeout=PROBE_TIMEOUT_S)
    except httpx.HTTPError:
        return ""
    if response.status_code == 200:
        return "ok"
    try:
        return ErrorEnvelope.model_validate_json(response.content).error.message
    except ValidationError:
        return ""


def _advice(settings: CliSettings) -> str:
    command = _command()
    return (
        "Try, from another shell:\n"
        f'  {command} ask "Which taint do the GPU node pools carry?"\n'
        f"  {command} ingest PATH…   your own documents\n"
        f"  {settings.gateway_url}   the page; under /docs the API, which is OpenAI's: "
        f"base_url={settings.gateway_url}/v1\n"
        "Ctrl-C stops everything."
    )


def _command() -> str:
    """Return how this command is called from a shell that knows nothing of its environment."""
    return "isthmus" if shutil.which("isthmus") else sys.argv[0]
