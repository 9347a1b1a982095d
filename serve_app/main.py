"""`python -m serve_app.main`: the application on a Ray instance of its own, in the foreground.

SIGINT or SIGTERM drains and stops everything that was started. Should this process be killed
outright, the kernel ends Ray's processes with it (Ray ties them to their parent).
"""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from serve_app import auth, ingress
from serve_app.errors import SettingsError
from serve_app.settings import ServeSettings

RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is reported to anybody
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's coming default; silences its warning
    "RAY_METRICS_EXPORT_INTERVAL_MS": "10000",
}
"""What Ray reads from the environment before it starts; a variable that is set wins."""


POLL_S = 0.2


class _Stop(BaseException):
    """A signal asked this process to end. Not an `Exception`: Ray must not take it for one."""

    def __init__(self, signum: int) -> None:
        self.status = 128 + signum


class _Signals:
    """Ends the work at the first SIGINT or SIGTERM.

    The handler raises, since Ray's calls block for seconds. Raised inside a finalizer or a
    callback, the exception is lost: so it is also noted, and looked for between those calls.
    """

    def __init__(self) -> None:
        self._signum: int | None = None
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, self._stop)

    def check(self) -> None:
        """Return while no signal came; raise `_Stop` if one did."""
        if self._signum is not None:
            raise _Stop(self._signum)

    def _stop(self, signum: int, _: FrameType | None) -> None:
        if self._signum is None:  # else stopping is under way: let it finish
            self._signum = signum
            raise _Stop(signum)


def main() -> int:
    """Serve until a signal comes. Returns the exit status."""
    signals = _Signals()
    for name, value in RAY_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        _serve(signals)
    except SettingsError as error:
        print(f"The gateway cannot start: {error}", file=sys.stderr, flush=True)  # noqa: T201
        return 2
    except _Stop as stop:
        return stop.status
    return 0


def _serve(signals: _Signals) -> None:
    settings = ServeSettings()
    _check_exposure(settings)
    _check_port(settings)
    with ingress.prepared(settings):
        _run(signals, settings)


def _run(signals: _Signals, settings: ServeSettings) -> None:
    # Here, not above: Ray reads its environment when it is imported; and importing it takes a
    # second or two, in which a Ctrl-C counts too.
    from ray import serve
    from ray.exceptions import RayTaskError

    from serve_app import app as application
    from serve_app import own_ray

    with _preparation() as prepared, own_ray.running(settings):
        signals.check()
        try:
            serve.start(
                proxy_location="HeadOnly",
                http_options={"host": settings.host, "port": settings.port},
            )
        except RayTaskError:
            _check_port(settings)  # somebody took it while Ray started?
            raise
        prepared()
        signals.check()
        try:
            serve.run(application.app, name="isthmus", logging_config={"enable_access_log": False})
            print(f"Serving on http://{settings.host}:{settings.port}", flush=True)  # noqa: T201
            while True:
                signals.check()
                time.sleep(POLL_S)
        finally:
            serve.shutdown()  # type: ignore[no-untyped-call]


def _check_exposure(settings: ServeSettings) -> None:
    """Keep a gateway that asks for no key on this machine, and say so.

    Raises:
        SettingsError: it would listen on a network, or the file of keys is wrong.
    """
    auth.load(settings.api_keys_file)
    if settings.api_keys_file is not None or settings.oidc_issuer:
        return
    if not _is_loopback(settings.host):
        raise SettingsError(
            f"it would listen on {settings.host} and ask nobody for a key. Set "
            "SERVE_API_KEYS_FILE or SERVE_OIDC_ISSUER (docs/serving.md), or SERVE_HOST to "
            "127.0.0.1."
        )
    print("Authentication is off: every process on this machine may ask.", flush=True)  # noqa: T201


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_port(settings: ServeSettings) -> None:
    """Refuse a taken port before Ray takes its seconds to start.

    Raises:
        SettingsError: nobody else may listen there.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise SettingsError(
                f"port {settings.port} on {settings.host} cannot be used ({error.strerror}). "
                "Stop what listens there, or set SERVE_PORT to another port."
            ) from error


@contextmanager
def _preparation() -> Iterator[Callable[[], None]]:
    """Prepare the embedding model while Ray starts; yield a function that waits for it.

    The function raises SettingsError when the model cannot be had.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "serve_app.prepare"], stderr=subprocess.PIPE, text=True
    ) as process:

        def wait() -> None:
            _, complaint = process.communicate()
            if process.returncode != 0:
                raise SettingsError(complaint.strip().rpartition("\n")[2])

        try:
            yield wait
        finally:
            process.kill()


if __name__ == "__main__":
    sys.exit(main())
