from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from llm_backend.api.tls import Tls
from llm_backend.errors import SettingsError
from llm_backend.settings import LlmSettings
from tests.support.certificates import Authority


class Files:
    def __init__(self, directory: Path) -> None:
        self.authority = Authority.new()
        self.cert, self.key = directory / "cert.pem", directory / "key.pem"
        self.ca = self.authority.write(directory / "ca.pem")
        self.authority.issue("first", self.cert, self.key)
        self.client_cert, self.client_key = directory / "c.pem", directory / "ck.pem"
        self.authority.issue("client", self.client_cert, self.client_key)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


async def subject(server: Tls, client: ssl.SSLContext) -> str:
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
    server = Tls(files.cert, files.key, None)
    client = ssl.create_default_context(cafile=files.ca)
    assert await subject(server, client) == "first"
    following = asyncio.create_task(server.follow(0.01))
    files.key.write_text("half a renewal")
    await asyncio.sleep(0.1)
    assert await subject(server, client) == "first"
    files.authority.issue("second", files.cert, files.key)
    await asyncio.sleep(0.1)
    assert await subject(server, client) == "second"
    following.cancel()


async def test_clients_without_a_certificate_are_refused(files: Files) -> None:
    server = Tls(files.cert, files.key, files.ca)
    client = ssl.create_default_context(cafile=files.ca)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await subject(server, client)
    client.load_cert_chain(files.client_cert, files.client_key)
    assert await subject(server, client) == "first"


def test_files_that_do_not_fit(files: Files) -> None:
    with pytest.raises(SettingsError, match="LLM_TLS_KEY"):
        Tls(files.cert, files.client_key, None)


def test_plain_http_without_settings() -> None:
    assert Tls.of(LlmSettings()) is None
