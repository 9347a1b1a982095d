"""A running gateway and a running LLM service over mutual TLS, with the chart's own variables."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from contracts import tls
from tests.support.authority import Authority
from tests.support.processes import ROOT, free_port, stop, wait_for
from tests.support.serve import Gateway, gateway
from tests.support.tiny_model import write_tiny_model

NAME = "isthmus-gateway.rag.svc"
LLM = "localhost"
PATIENCE_S = 150.0
"""Far more than it takes on an idle machine, where each step is done in seconds."""


@dataclass(frozen=True)
class Sides:
    """Both authorities, the gateway, and where the LLM service is started."""

    ours: Authority
    theirs: Authority
    gateway: Gateway
    port: int
    model: Path

    @contextmanager
    def llm(self, files: tls.TlsFiles) -> Iterator[None]:
        """Run the LLM service with a certificate until the block ends."""
        env = {
            "LLM_MODEL": str(self.model),
            "LLM_PORT": str(self.port),
            "LLM_TLS_CERT": str(files.cert),
            "LLM_TLS_KEY": str(files.key),
            "LLM_TLS_CLIENT_CA": str(self.ours.folder / "ca.crt"),
            "LLM_TLS_CLIENT_NAMES": f"{NAME},localhost",
        }
        log = (self.model / "log").open("ab")
        command = [sys.executable, "-m", "tests.support.llm_service"]
        process = subprocess.Popen(
            command, env={**os.environ, **env}, cwd=ROOT, stdout=log, stderr=log
        )
        try:
            wait_for(lambda: self._is_up(files), PATIENCE_S, "the LLM service")
            yield
        finally:
            stop(process)
            log.close()

    def _is_up(self, files: tls.TlsFiles) -> bool:
        """Ask as the pod's own probe does, whoever signed the service's certificate."""
        probe = self.ours.issue("localhost", file="probe", trust=files.cert.parent / "ca.crt")
        context = tls.client_context(probe)
        context.check_hostname = False
        context.verify_mode = tls.ssl.CERT_NONE
        try:
            return httpx.get(f"https://{LLM}:{self.port}/readyz", verify=context).is_success
        except httpx.TransportError:
            return False

    def reaches_llm(self) -> bool:
        """Whether the gateway says that it reaches the LLM service."""
        return httpx.get(f"{self.gateway.url}/readyz", timeout=60).is_success

    def await_llm(self) -> None:
        wait_for(self.reaches_llm, PATIENCE_S, "the LLM service is reached", 0.2)


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sides]:
    folder = tmp_path_factory.mktemp("mtls")
    ours, theirs = Authority.make(folder / "ours"), Authority.make(folder / "theirs")
    files, port = ours.issue(NAME, file="gateway"), free_port()
    settings = {
        "RAG_LLM_URL": f"https://{LLM}:{port}/v1",
        "RAG_LLM_TLS_CA": str(files.ca),
        "RAG_LLM_TLS_CERT": str(files.cert),
        "RAG_LLM_TLS_KEY": str(files.key),
    }
    with gateway(folder, **settings) as started:
        yield Sides(ours, theirs, started, port, write_tiny_model(folder / "tiny"))


def test_a_question_crosses_it(sides: Sides) -> None:
    with sides.llm(sides.ours.issue(LLM, file="good")):
        sides.await_llm()
        ask = {"role": "user", "content": "Which taint do the GPU node pools carry?"}
        body = {"model": "isthmus", "messages": [ask], "retrieval": "never"}
        with sides.gateway.http() as http:
            answer = http.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("another authority", "unable to get local issuer certificate"),
        ("another name", "Hostname mismatch"),
        ("expired", "certificate has expired"),
    ],
)
def test_the_gateway_refuses_another_llm_service(sides: Sides, fault: str, words: str) -> None:
    issuer = sides.theirs if fault == "another authority" else sides.ours
    name = "elsewhere.rag.svc" if fault == "another name" else LLM
    files = issuer.issue(name, days=-1 if fault == "expired" else 30, file="bad")
    with sides.llm(files):
        response = httpx.get(f"{sides.gateway.url}/readyz", timeout=60)
    assert response.status_code == 503
    assert words in response.json()["checks"]["llm"]


@pytest.mark.parametrize("fault", ["another authority", "another name", "expired"])
def test_the_llm_service_refuses_another_gateway(sides: Sides, fault: str) -> None:
    """The gateway takes each certificate without a restart; a new connection shows it."""
    issuer = sides.theirs if fault == "another authority" else sides.ours
    name = "somebody.rag.svc" if fault == "another name" else NAME
    bad = issuer.issue(name, days=-1 if fault == "expired" else 30, file="bad")
    in_use, service = sides.ours.folder / "gateway", sides.ours.issue(LLM, file="good")

    def refused() -> bool:
        with sides.llm(service):  # started anew, it knows no connection of the one before
            return not sides.reaches_llm()

    _replace(in_use, bad)
    wait_for(refused, PATIENCE_S, "the gateway is refused")
    _replace(in_use, sides.ours.issue(NAME, file="spare"))
    with sides.llm(service):
        sides.await_llm()


def _replace(in_use: Path, files: tls.TlsFiles) -> None:
    for suffix, source in ((".crt", files.cert), (".key", files.key)):
        new = in_use.with_suffix(f"{suffix}.new")
        new.write_bytes(source.read_bytes())
        new.rename(in_use.with_suffix(suffix))
