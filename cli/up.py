"""`isthmus up`: the whole system in the foreground."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import httpx
import typer
from pydantic import ValidationError
from rich.console import Console

from cli import ingest
from cli.children import Child, stop_all
from cli.errors import ChildError, UsageError
from cli.gateway import Gateway
from cli.settings import CliSettings
from contracts.errors import ErrorEnvelope

POLL_S = 0.2
PROBE_TIMEOUT_S = 2.0
STOP_TIMEOUT_S = 30.0


class Stopped(BaseException):
    """A signal asked for the end. Not an `Exception`: nothing on the way may take it for one."""

    def __init__(self, signum: int) -> None:
        self.status = 128 + signum


def up(
    docs: Annotated[
        Path | None, typer.Option(help="Folder to ingest. Default: docs/, where there is one.")
    ] = None,
) -> None:
    """Start the LLM service and the gateway, ingest docs/, and serve until Ctrl-C."""
    settings = CliSettings()
    folder = _folder(docs)
    children = _children(settings)
    _check_ports(settings)
    console = Console(highlight=False, soft_wrap=True)
    try:
        with _signals():
            try:
                _serve(settings, children, folder, console)
            finally:
                _ignore_signals()
                console.print("Stopping …")
                stop_all(children.values(), STOP_TIMEOUT_S)
    except Stopped as stopped:
        raise typer.Exit(stopped.status) from None


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


@contextmanager
def _signals() -> Iterator[None]:
    """Turn SIGINT, SIGTERM and SIGHUP into `Stopped` while the block runs."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, _stop)
    yield


def _stop(signum: int, _: FrameType | None) -> None:
    _ignore_signals()
    raise Stopped(signum)


def _ignore_signals() -> None:
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)


def _serve(
    settings: CliSettings, children: Mapping[str, Child], folder: Path | None, console: Console
) -> None:
    started = time.monotonic()
    environment = {"RAG_LLM_URL": settings.llm_url}
    for url, child in children.items():
        console.print(f"Starting the {child.title} on {url} (log: {child.log})")
        child.start(environment)
    _wait(settings, children, console, settings.gateway_url, "/healthz")
    if folder is not None:
        _ingest(settings, folder, console)
    for url in children:
        _wait(settings, children, console, url, "/readyz")
    console.print(f"Ready after {time.monotonic() - started:.0f} s.\n\n{_advice(settings)}")
    while True:
        _check(children)
        time.sleep(POLL_S)


def _wait(
    settings: CliSettings, children: Mapping[str, Child], console: Console, url: str, path: str
) -> None:
    """Return once `url` + `path` answers 200, having told of what it says until then.

    Raises:
        ChildError: a child ended, or it took too long.
    """
    title, said = children[url].title, ""
    deadline = time.monotonic() + settings.isthmus_start_timeout_s
    while (state := _state(f"{url}{path}")) != "ok":
        _check(children)
        if time.monotonic() > deadline:
            raise ChildError(
                f"The {title} was not ready within {settings.isthmus_start_timeout_s:g} s. "
                f"See {children[url].log}, or raise ISTHMUS_START_TIMEOUT_S."
            )
        if state and state != said:
            console.print(f"  {title}: {state}")
            said = state
        time.sleep(POLL_S)


def _check(children: Mapping[str, Child]) -> None:
    for child in children.values():
        child.check()


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


def _ingest(settings: CliSettings, folder: Path, console: Console) -> None:
    files = list(ingest.find([folder]))
    with Gateway(settings.gateway_url) as gateway:
        ingest.show(console, ingest.run(gateway, files, "default"), len(files))


def _advice(settings: CliSettings) -> str:
    return (
        "Try:\n"
        '  isthmus ask "Which taint do the GPU node pools carry?"\n'
        "  isthmus ingest PATH…          your own documents\n"
        f"  {settings.gateway_url}/docs   the API, which is OpenAI's: "
        f"base_url={settings.gateway_url}/v1\n"
        "Ctrl-C stops everything."
    )
