"""The service's life: refusals at the start, failures of ranks, draining, orphans."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import psutil
import pytest

from tests.support.authority import Authority
from tests.support.breaks import BREAKS, Load, break_rank
from tests.support.llm_service import ServiceProcess, running_service
from tests.support.processes import ROOT, free_port, running, wait_for
from tests.support.tiny_model import write_tiny_model

ENDLESS = {"model": "tiny", "prompt": "ab", "max_tokens": 4000, "ignore_eos": True}


def start(module: str = "llm_backend.inference_server", **env: str) -> tuple[int, str]:
    """Run the service until it ends by itself; return exit code and stderr."""
    done = subprocess.run(
        [sys.executable, "-m", module],
        env={**os.environ, "LLM_PORT": str(free_port()), **env},
        capture_output=True,
        timeout=60,
        cwd=ROOT,
        check=False,
    )
    return done.returncode, done.stderr.decode()


def test_a_wrong_setting() -> None:
    code, message = start(LLM_PORT="many")
    assert code == 2
    assert message.startswith("error: LLM_PORT: ")


def test_missing_model_directory() -> None:
    code, message = start(LLM_MODEL="/nowhere/model")
    assert (code, message.count("\n")) == (3, 1)
    assert "no model directory /nowhere/model" in message


def test_unknown_bundle() -> None:
    code, message = start(LLM_MODEL="bundled:gpt-9")
    assert code == 3
    assert "bundled:smollm2-135m-instruct" in message


def test_pickled_weights(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "m")
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    code, message = start(LLM_MODEL=str(model))
    assert code == 4
    assert "pickled weights" in message


def test_no_mpirun(tiny_model: Path) -> None:
    code, message = start(LLM_MODEL=str(tiny_model), LLM_MPIRUN="/nowhere/mpirun")
    assert (code, message.count("\n")) == (5, 1)
    assert "no mpirun at '/nowhere/mpirun'" in message


def test_port_in_use(tiny_model: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, message = start(LLM_MODEL=str(tiny_model), LLM_PORT=str(port))
    assert (code, message.count("\n")) == (6, 1)
    assert f"127.0.0.1:{port}" in message


def test_a_model_that_cannot_run(tiny_model: Path) -> None:
    env = {"LLM_MODEL": str(tiny_model), "FAKE_FAIL": "The heads do not divide."}
    code, message = start("tests.support.llm_service", **env)
    assert code == 7
    assert message.endswith("error: The heads do not divide.\n")


def test_progress_of_the_start(tiny_model: Path, tmp_path: Path) -> None:
    port = free_port()
    env = {"LLM_MODEL": str(tiny_model), "FAKE_START_S": "2", "LLM_PORT": str(port)}
    command, url = ["-m", "tests.support.llm_service"], f"http://127.0.0.1:{port}"
    with running(command, ready_url=f"{url}/healthz", log=tmp_path / "log", env=env) as process:
        service = ServiceProcess(process, url, tmp_path / "log")
        wait_for(lambda: _phase(service) == "pretending to load", 30, "loading", poll_s=0.02)
        status, body = service.readyz()
        assert (status, body["status"]) == (503, "starting")
        assert body["percent"] in (10, 60)
        assert body["eta_s"] > 0
        refused = service.post("/v1/completions", ENDLESS)
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        service.wait_ready()


def _phase(service: ServiceProcess) -> str | None:
    return service.readyz()[1].get("phase")


@pytest.fixture(scope="module")
def fragile(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with running_service(
        tmp_path_factory.mktemp("fragile") / "log",
        LLM_MODEL=str(tiny_model),
        LLM_TENSOR_PARALLEL="2",
        LLM_HEARTBEAT_TIMEOUT_S="1.5",
        LLM_PROGRESS_TIMEOUT_S="1.5",
        LLM_RESTART_BACKOFF_S="0.1",
        LLM_RESTART_BACKOFF_MAX_S="0.2",
    ) as service:
        yield service


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("how", list(BREAKS))
@pytest.mark.parametrize("_again", range(2))
def test_a_broken_rank_under_load(
    fragile: ServiceProcess, how: str, rank: int, _again: int
) -> None:
    fragile.wait_ready()
    break_rank(fragile, how, rank, ready_within=15)
    assert fragile.post("/v1/completions", {**ENDLESS, "max_tokens": 2}).status_code == 200


@pytest.mark.parametrize(
    ("trick", "reason"),
    [("<hang>", "no token for"), ("<exit>", "rank 0 ended"), ("<crash>", "rank 0 ended")],
)
def test_an_engine_that_breaks_by_itself(fragile: ServiceProcess, trick: str, reason: str) -> None:
    fragile.wait_ready()
    response = fragile.post("/v1/completions", {**ENDLESS, "prompt": trick})
    assert (response.status_code, response.json()["error"]["code"]) == (503, "not_ready")
    assert reason in response.json()["error"]["message"]
    fragile.wait_ready(15)


def test_a_killed_mpirun(fragile: ServiceProcess) -> None:
    fragile.wait_ready()
    family = fragile.family()
    family[0].kill()
    wait_for(lambda: fragile.readyz()[0] == 503, 5, "not ready", poll_s=0.01)
    fragile.wait_ready(15)
    _, alive = psutil.wait_procs(family, timeout=5)
    assert alive == []


def test_nothing_is_left_in_the_temporary_directory(tiny_model: Path, tmp_path: Path) -> None:
    temporary = tmp_path / "t"
    temporary.mkdir()
    before = {p.name for p in Path("/dev/shm").iterdir()}  # noqa: S108
    env = {"LLM_MODEL": str(tiny_model), "TMPDIR": str(temporary), "LLM_TENSOR_PARALLEL": "2"}
    with running_service(tmp_path / "log", **env) as service:
        service.rank(1).kill()
        wait_for(lambda: service.readyz()[1]["restarts"] == 1, 5, "restart")
        service.wait_ready(15)
    assert list(temporary.iterdir()) == []
    assert {p.name for p in Path("/dev/shm").iterdir()} <= before  # noqa: S108


def test_sigterm_drains(tiny_model: Path, tmp_path: Path) -> None:
    with running_service(tmp_path / "log", LLM_MODEL=str(tiny_model)) as service:
        with ThreadPoolExecutor(1) as pool:
            body = {**ENDLESS, "max_tokens": 400}
            answer = pool.submit(service.post, "/v1/completions", body)
            wait_for(lambda: _in_flight(service) == 1, 5, "running", poll_s=0.01)
            service.process.terminate()
            wait_for(lambda: service.readyz()[1]["status"] == "draining", 2, "draining")
            refused = service.post("/v1/completions", body)
            assert answer.result(10).json()["usage"]["completion_tokens"] == 400
        assert refused.status_code == 503
        assert service.process.wait(10) == 0


def test_what_does_not_finish_in_time_is_aborted_with_an_answer(
    tiny_model: Path, tmp_path: Path
) -> None:
    env = {"LLM_MODEL": str(tiny_model), "LLM_DRAIN_TIMEOUT_S": "0.3"}
    with running_service(tmp_path / "log", **env) as service:
        load = Load(service)
        began = time.monotonic()
        service.process.terminate()
        load.assert_retryable_errors()
        assert service.process.wait(10) == 0
        assert time.monotonic() - began < 5


def test_a_killed_front_end_leaves_no_rank(tiny_model: Path, tmp_path: Path) -> None:
    env = {"LLM_MODEL": str(tiny_model), "LLM_TENSOR_PARALLEL": "2"}
    with running_service(tmp_path / "log", **env) as service:
        family = service.family()
        service.rank(1).send_signal(signal.SIGSTOP)
        service.process.kill()
        service.process.wait()
        _, alive = psutil.wait_procs(family, timeout=5)
        assert alive == []


def test_a_full_queue_refuses_at_once(tiny_model: Path, tmp_path: Path) -> None:
    env = {"LLM_MODEL": str(tiny_model), "LLM_MAX_NUM_SEQS": "1", "LLM_MAX_WAITING": "1"}
    with (
        running_service(tmp_path / "log", **env) as service,
        ThreadPoolExecutor(2) as pool,
    ):
        body = {**ENDLESS, "max_tokens": 1000}
        admitted = [pool.submit(service.post, "/v1/completions", body) for _ in "ab"]
        wait_for(lambda: _in_flight(service) == 2, 5, "running", poll_s=0.01)
        refused = service.post("/v1/completions", body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        assert [r.result().status_code for r in admitted] == [200, 200]


def test_api_key(tiny_model: Path, tmp_path: Path) -> None:
    env = {"LLM_MODEL": str(tiny_model), "LLM_API_KEY": "secret"}
    with running_service(tmp_path / "log", **env) as service:
        with pytest.raises(openai.AuthenticationError):
            service.openai.completions.create(model="tiny", prompt="ab")
        good = openai.OpenAI(base_url=f"{service.url}/v1", api_key="secret")
        assert good.completions.create(model="tiny", prompt="ab").choices[0].text == "ab"
        assert "secret" not in service.log.read_text()


def test_https(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = Authority.make(tmp_path).issue("service", "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(files.ca))
    tls = {"LLM_TLS_CERT": str(files.cert), "LLM_TLS_KEY": str(files.key)}
    env = {"LLM_MODEL": str(tiny_model), **tls}
    with running_service(tmp_path / "log", scheme="https", **env) as service:
        assert service.post("/v1/completions", {"model": "tiny", "prompt": "ab"}).is_success


def test_wrong_tls_files(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "cert").write_text("nope")
    cert = str(tmp_path / "cert")
    code, message = start(LLM_MODEL=str(tiny_model), LLM_TLS_CERT=cert, LLM_TLS_KEY=cert)
    assert (code, message.count("\n")) == (2, 1)
    assert "LLM_TLS_CERT" in message


def _in_flight(service: ServiceProcess) -> int:
    header = httpx.get(f"{service.url}/healthz").headers["x-isthmus-load"]
    return int(dict(part.split("=") for part in header.split(", "))["in_flight"])
