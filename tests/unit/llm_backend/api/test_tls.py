from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from contracts.tls import Renewal, TlsFiles
from llm_backend.api.tls import server_tls
from llm_backend.errors import SettingsError
from llm_backend.settings import LlmSettings
from tests.support.authority import Authority


class Files:
    def __init__(self, directory: Path) -> None:
        self.authority = Authority.make(directory)
        self.server = self.serve("first")
        self.client = self.authority.issue("client.rag.svc", file="client")
        self.ca = directory / "ca.crt"

    def serve(self, name: str) -> TlsFiles:
        return self.authority.issue(name, "127.0.0.1", file="server")


def made(files: Files, **changes: Any) -> Renewal:
    found = server_tls(LlmSettings(tls_cert=files.server.cert, tls_key=files.server.key, **changes))
    assert found is not None
    return found


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


async def subject(server: Renewal, client: ssl.SSLContext) -> str:
    """Connect over a real socket; return the name on the server's certificate."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with closing(writer):
            await reader.readline()
            writer.write(b"ok\n")

    async with await asyncio.start_server(talk, "127.0.0.1", 0, ssl=server.context) as listener:
        port = listener.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
        async with closing(writer):
            peer = writer.get_extra_info("peercert")["subject"]
            writer.write(b"hi\n")
            if await reader.readline() != b"ok\n":
                raise ConnectionError("hung up")
    return str(dict(pair for names in peer for pair in names)["commonName"])


@asynccontextmanager
async def closing(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    try:
        yield
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def test_serves_and_follows_a_renewal(files: Files) -> None:
    server = made(files)
    client = ssl.create_default_context(cafile=files.ca)
    assert await subject(server, client) == "first"
    following = asyncio.create_task(server.follow(0.01))
    files.server.key.write_text("half a renewal")
    await asyncio.sleep(0.1)
    assert await subject(server, client) == "first"
    files.serve("second")
    await asyncio.sleep(0.1)
    assert await subject(server, client) == "second"
    following.cancel()


async def test_clients_without_a_certificate_are_refused(files: Files) -> None:
    server = made(files, tls_client_ca=files.ca)
    client = ssl.create_default_context(cafile=files.ca)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await subject(server, client)
    client.load_cert_chain(files.client.cert, files.client.key)
    assert await subject(server, client) == "first"


def test_files_that_do_not_fit(files: Files) -> None:
    with pytest.raises(SettingsError, match="LLM_TLS_KEY"):
        server_tls(LlmSettings(tls_cert=files.server.cert, tls_key=files.client.key))


def test_plain_http_without_settings() -> None:
    assert server_tls(LlmSettings()) is None


async def test_only_clients_of_the_names_are_admitted(files: Files) -> None:
    client = ssl.create_default_context(cafile=files.ca)
    client.load_cert_chain(files.client.cert, files.client.key)
    right = made(files, tls_client_ca=files.ca, tls_client_names="x, client.rag.svc")
    assert await subject(right, client) == "first"
    wrong = made(files, tls_client_ca=files.ca, tls_client_names="x,client")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await subject(wrong, client)


def test_names_without_an_authority() -> None:
    with pytest.raises(ValueError, match="LLM_TLS_CLIENT_CA"):
        LlmSettings(tls_client_names="client.rag.svc")
