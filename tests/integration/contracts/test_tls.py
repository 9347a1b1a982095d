"""Mutual TLS for real: the gateway's LLM client against an LLM server, over sockets."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import httpx
import pytest
import uvicorn
import uvloop

from contracts import tls
from contracts.mock_llm import MockLLM
from llm_backend.api.tls import server_tls
from llm_backend.settings import LlmSettings
from rag_graph.errors import LLMTlsError, LLMUnavailableError
from rag_graph.llm import mtls
from rag_graph.llm.client import LLMClient
from rag_graph.llm.pool import LLM, open_llm
from rag_graph.settings import RagSettings
from tests.support.authority import Authority

GATEWAY = "isthmus-gateway.rag.svc"
PROBE = Path(__file__).resolve().parents[3] / "helm/isthmus/files/probe.py"


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # pytest's own handlers stay


@asynccontextmanager
async def llm_server(context: ssl.SSLContext) -> AsyncIterator[str]:
    config = uvicorn.Config(
        MockLLM(), port=0, log_config=None, ssl_context_factory=lambda *_: context
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve())
    await server.listening.wait()
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"https://localhost:{port}/v1"
    finally:
        server.should_exit = True
        await task


async def ask(url: str, context: ssl.SSLContext | bool) -> str:
    """Return the first model's id, as the gateway's client reads it."""
    client = LLMClient(url, transport=httpx.AsyncHTTPTransport(verify=context))
    try:
        return (await client.models())[0].id
    finally:
        await client.aclose()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.make(tmp_path / "ca")


@pytest.fixture
def other(tmp_path: Path) -> Authority:
    return Authority.make(tmp_path / "other")


def serving(authority: Authority, **changes: int) -> ssl.SSLContext:
    return tls.server_context(authority.issue("localhost", **changes), [GATEWAY])


async def test_both_sides_agree(authority: Authority) -> None:
    async with llm_server(serving(authority)) as url:
        assert await ask(url, tls.client_context(authority.issue(GATEWAY)))


async def refused(url: str, context: ssl.SSLContext | bool) -> str:
    with pytest.raises(LLMUnavailableError) as caught:
        await ask(url, context)
    return str(caught.value.__cause__ or caught.value)


async def test_a_client_of_another_authority_is_refused(
    authority: Authority, other: Authority
) -> None:
    files = other.issue(GATEWAY, trust=authority.folder / "ca.crt")
    async with llm_server(serving(authority)) as url:
        await refused(url, tls.client_context(files))


def test_names_are_checked_under_uvloop_too(authority: Authority) -> None:
    """The LLM service runs on uvloop, whose TLS is its own code."""

    async def both() -> None:
        async with llm_server(serving(authority)) as url:
            assert await ask(url, tls.client_context(authority.issue(GATEWAY)))
            await refused(url, tls.client_context(authority.issue("somebody.rag.svc")))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(both())


async def test_a_client_of_another_name_is_refused(authority: Authority) -> None:
    async with llm_server(serving(authority)) as url:
        await refused(url, tls.client_context(authority.issue("somebody.rag.svc")))


async def test_an_expired_client_is_refused(authority: Authority) -> None:
    async with llm_server(serving(authority)) as url:
        await refused(url, tls.client_context(authority.issue(GATEWAY, days=-1)))


async def test_a_client_without_a_certificate_is_refused(authority: Authority) -> None:
    bare = ssl.create_default_context(cafile=authority.folder / "ca.crt")
    async with llm_server(serving(authority)) as url:
        await refused(url, bare)


async def test_a_server_of_another_authority_is_refused(
    authority: Authority, other: Authority
) -> None:
    async with llm_server(serving(other)) as url:
        words = await refused(url, tls.client_context(authority.issue(GATEWAY)))
    assert "CERTIFICATE_VERIFY_FAILED" in words


async def test_a_server_of_another_name_is_refused(authority: Authority) -> None:
    context = tls.server_context(authority.issue("elsewhere.rag.svc"), [GATEWAY])
    async with llm_server(context) as url:
        assert "localhost" in await refused(url, tls.client_context(authority.issue(GATEWAY)))


async def test_an_expired_server_is_refused(authority: Authority) -> None:
    async with llm_server(serving(authority, days=-1)) as url:
        assert "expired" in await refused(url, tls.client_context(authority.issue(GATEWAY)))


async def test_both_sides_take_new_certificates_without_a_restart(authority: Authority) -> None:
    """Expired certificates are replaced in place, and the same contexts then agree."""
    server_files = authority.issue("localhost", days=-1, file="server")
    client_files = authority.issue(GATEWAY, days=-1, file="client")
    server = tls.server_context(server_files, [GATEWAY])
    client = tls.client_context(client_files)
    async with llm_server(server) as url:
        assert "expired" in await refused(url, client)
        authority.issue("localhost", file="server")
        tls.refresh(server, server_files)
        await refused(url, client)  # the client's own is still expired
        authority.issue(GATEWAY, file="client")
        tls.refresh(client, client_files)
        assert await ask(url, client)


async def test_new_files_are_noticed(authority: Authority) -> None:
    files = authority.issue(GATEWAY, days=-1, file="client")
    renewal = tls.Renewal(files, tls.client_context)
    keeping = asyncio.create_task(renewal.follow(every_s=0.01))
    async with llm_server(serving(authority)) as url:
        await refused(url, renewal.context)
        authority.issue(GATEWAY, file="client")
        async with asyncio.timeout(10):
            while True:
                with suppress(LLMUnavailableError):
                    assert await ask(url, renewal.context)
                    break
    keeping.cancel()
    with suppress(asyncio.CancelledError):
        await keeping


async def test_a_broken_new_file_changes_nothing(authority: Authority) -> None:
    files = authority.issue(GATEWAY, file="client")
    client = tls.client_context(files)
    files.cert.write_text("half a file")
    with pytest.raises(ssl.SSLError):
        tls.refresh(client, files)
    async with llm_server(serving(authority)) as url:
        assert await ask(url, client)


def test_a_server_that_would_admit_nobody_is_refused(authority: Authority) -> None:
    with pytest.raises(ValueError, match="at least one client"):
        tls.server_context(authority.issue("localhost"), [])


def test_names_need_an_authority(authority: Authority) -> None:
    files = dataclasses.replace(authority.issue("localhost"), ca=None)
    with pytest.raises(ValueError, match="authority"):
        tls.server_context(files, [GATEWAY])


def llm_context(authority: Authority) -> ssl.SSLContext:
    """Return the LLM service's own context, as the chart's variables make it."""
    files = authority.issue("localhost")
    made = server_tls(
        LlmSettings(
            tls_cert=files.cert,
            tls_key=files.key,
            tls_client_ca=files.ca,
            tls_client_names=f"{GATEWAY},localhost",
        )
    )
    assert made is not None
    return made.context


@asynccontextmanager
async def gateways_client(url: str, files: tls.TlsFiles) -> AsyncIterator[LLM]:
    """Yield the gateway's own client, as the chart's variables make it."""
    settings = RagSettings(
        llm_url=url, llm_tls_ca=files.ca, llm_tls_cert=files.cert, llm_tls_key=files.key
    )
    client = open_llm(settings)
    try:
        yield client
    finally:
        await client.aclose()


async def test_the_llm_service_and_the_gateway_agree(authority: Authority) -> None:
    async with (
        llm_server(llm_context(authority)) as url,
        gateways_client(url, authority.issue(GATEWAY)) as client,
    ):
        assert await client.models()


async def test_the_gateway_refuses_another_service(authority: Authority, other: Authority) -> None:
    elsewhere = tls.server_context(authority.issue("elsewhere.rag.svc"), [GATEWAY])
    for context in (llm_context(other), elsewhere, serving(authority, days=-1)):
        async with (
            llm_server(context) as url,
            gateways_client(url, authority.issue(GATEWAY)) as client,
        ):
            with pytest.raises(LLMUnavailableError):
                await client.models()


async def test_the_gateway_takes_a_new_certificate_without_a_restart(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mtls, "LOOK_S", 0.0)
    files = authority.issue(GATEWAY, days=-1, file="client")
    async with llm_server(llm_context(authority)) as url, gateways_client(url, files) as client:
        with pytest.raises(LLMUnavailableError):
            await client.models()
        authority.issue(GATEWAY, file="client")
        assert await client.models()


def test_files_that_the_gateway_cannot_use(authority: Authority) -> None:
    files = authority.issue(GATEWAY)
    wrong = RagSettings(
        llm_url="https://localhost/v1",
        llm_tls_ca=files.ca,
        llm_tls_cert=files.cert,
        llm_tls_key=authority.issue("localhost").key,
    )
    with pytest.raises(LLMTlsError, match="RAG_LLM_TLS_KEY"):
        open_llm(wrong)
    with pytest.raises(ValueError, match="all of RAG_LLM_TLS_CA"):
        RagSettings(llm_tls_ca=files.ca)


async def test_the_llm_service_refuses_others(authority: Authority, other: Authority) -> None:
    ca = authority.folder / "ca.crt"
    contexts = [
        tls.client_context(other.issue(GATEWAY, trust=ca)),
        tls.client_context(authority.issue(GATEWAY, days=-1)),
        tls.client_context(authority.issue("somebody.rag.svc")),
        ssl.create_default_context(cafile=ca),
    ]
    async with llm_server(llm_context(authority)) as url:
        for context in contexts:
            await refused(url, context)


async def probe(url: str, folder: Path) -> int:
    command = [sys.executable, str(PROBE), url.replace("/v1", "/healthz"), str(folder)]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
    return await process.wait()


async def test_the_charts_probe_passes_with_the_pods_own_certificate(
    authority: Authority, other: Authority
) -> None:
    """helm/isthmus/files/probe.py: the kubelet has no certificate to show."""
    for made in (authority, other):
        made.issue("localhost", file="tls", trust=made.folder / "ca.crt")
    async with llm_server(llm_context(authority)) as url:
        assert await probe(url, authority.folder) == 0
        assert await probe(url, other.folder) == 1
    assert await probe(url, authority.folder) == 1
