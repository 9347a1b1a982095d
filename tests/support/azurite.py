"""Azure Blob Storage as Azurite plays it: Microsoft's own emulator, a real server on loopback."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest

from tests.support import tools
from tests.support.processes import free_port, stop, wait_for

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The emulator's account: the same in every installation, and no secret."""

_PACKAGE = "azurite@3.35.0"
_API = "2021-08-06"


@dataclass(frozen=True)
class Azurite:
    """A running emulator."""

    port: int

    @property
    def credentials(self) -> dict[str, str]:
        """The variables by which Azure's tools find account and key."""
        return self.place(self.port) | {"AZURE_STORAGE_ACCOUNT_KEY": KEY}

    @staticmethod
    def place(port: int) -> dict[str, str]:
        """The same without a key; `port` may be a proxy's."""
        endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
        return {
            "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
            "AZURE_ENDPOINT": endpoint,
            "AZURE_ALLOW_HTTP": "true",
        }

    def make_container(self, name: str) -> None:
        """Make a container, by the request that Azure's tools send."""
        headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": _API}
        lines = "".join(f"{key}:{headers[key]}\n" for key in sorted(headers))
        resource = f"/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
        headers["Authorization"] = (
            f"SharedKey {ACCOUNT}:{_signed(f'PUT{chr(10) * 12}{lines}{resource}')}"
        )
        url = f"http://127.0.0.1:{self.port}/{ACCOUNT}/{name}?restype=container"
        httpx.put(url, headers=headers).raise_for_status()


def sas_token(container: str, permissions: str = "rl") -> str:
    """Return a SAS for a container that is good for an hour."""
    end = (dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    # Permissions, start, expiry, resource, identifier, address, protocol, version, kind, …
    fields = [permissions, "", end, f"/blob/{ACCOUNT}/{container}", "", "", "", _API, "c"]
    signature = _signed("\n".join([*fields, *[""] * 7]))
    query = {"sv": _API, "sr": "c", "sp": permissions, "se": end, "sig": signature}
    return urlencode(query)


def _signed(text: str) -> str:
    digest = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


@contextmanager
def running_azurite(folder: Path) -> Iterator[Azurite]:
    """Run an empty emulator until the block ends; skip the test where there is no npm."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("npm is absent: Azurite cannot be installed (Debian: apt-get install npm)")
    main = tools.npm(_PACKAGE) / "node_modules/azurite/dist/src/blob/main.js"
    port = free_port()
    command = ["node", str(main), "--silent", "--disableTelemetry", "--skipApiVersionCheck"]
    command += ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(folder)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=dict(os.environ))
    try:
        wait_for(lambda: _answers(port), 30, "Azurite answers")
        yield Azurite(port)
    finally:
        stop(process)


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/").status_code >= 400
    except httpx.TransportError:
        return False
