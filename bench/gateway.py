"""The gateway under load: its ingress, and the same pipeline served by others.

    python -m bench.gateway ingress --requests 400
    python -m bench.gateway peers --requests 200 --hayhooks PYTHON
    python -m bench.gateway streams --streams 500

All of it over the mock LLM as a process of its own, closed loop, ratios within one run. `peers`
serves one store with one retriever three ways: by Isthmus, by FastAPI with a LangChain LCEL chain
(`bench.peer_lcel`), and by Hayhooks with a Haystack pipeline (`bench/peer_hayhooks`), whose Python
has to be given since Haystack wants a virtual environment of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil

from bench.http_load import Call, Timings, closed_loop
from tests.support.processes import free_port, running
from tests.support.serve import Gateway, gateway

CLIENTS = 32
ROOT = Path(__file__).resolve().parents[1]
QUESTION = "Which taint do the GPU node pools carry?"
DOCUMENT = "# Node pools\n\nThe GPU node pools carry the taint sku=gpu:NoSchedule.\n"
BODY = {"model": "isthmus", "messages": [{"role": "user", "content": QUESTION}]}
INGRESSES: Mapping[str, Mapping[str, str]] = {
    "Ray Serve's proxy": {"SERVE_INGRESS": "python"},
    "HAProxy": {"SERVE_INGRESS": "haproxy"},
}


def main() -> None:
    """Print one line of JSON for each cell."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["ingress", "peers", "streams"])
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--tokens-per-s", type=float, default=0, help="of the mock; 0: at once")
    parser.add_argument("--answer-tokens", type=int, default=0, help="of the mock; 0: as they come")
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--hayhooks", help="Python of an environment with hayhooks")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        work = {"ingress": ingress, "peers": peers, "streams": streams}[given.what]
        for row in work(Path(directory), given):
            print(json.dumps(row), flush=True)


def ingress(directory: Path, given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the figures of each ingress."""
    with mock(directory, given) as llm:
        for name, settings in INGRESSES.items():
            with filled(directory / name[:3], RAG_LLM_URL=llm, **settings) as served:
                for what, call, requests in _calls(served.url, given.requests):
                    yield {"server": name, "what": what} | loaded(call, requests)
                yield {"server": name, "rss_mb": rss(served.tree())}


def _calls(url: str, requests: int) -> Iterator[tuple[str, Call, int]]:
    yield "GET /healthz", Call(f"{url}/healthz"), 4 * requests
    yield "search", Call(f"{url}/v1/search", {"query": QUESTION}), requests
    yield "answer", Call(f"{url}/v1/chat/completions", BODY), requests
    yield "stream", Call(f"{url}/v1/chat/completions", {**BODY, "stream": True}), requests


def peers(directory: Path, given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the figures of each server of the same pipeline, round by round, in turns."""
    with mock(directory, given) as llm, ExitStack() as stack:
        served = stack.enter_context(filled(directory / "isthmus", RAG_LLM_URL=llm))
        store = {"RAG_STORE_URI": str(directory / "isthmus/store"), "RAG_LLM_URL": llm}
        urls = {"isthmus": served.url, "lcel": stack.enter_context(lcel(directory, store))}
        if given.hayhooks:
            urls["hayhooks"] = stack.enter_context(hayhooks(directory, store, given.hayhooks))
        for number in range(given.rounds):
            for name, url in urls.items():
                for what, extra in (("answer", {}), ("stream", {"stream": True})):
                    call = Call(_chat(name, url), {**BODY, "model": "isthmus", **extra})
                    figures = loaded(call, given.requests)
                    yield {"server": name, "what": what, "round": number} | figures


def _chat(name: str, url: str) -> str:
    return f"{url}/chat/completions" if name == "hayhooks" else f"{url}/v1/chat/completions"


def streams(directory: Path, given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield what many streams at once cost: errors, CPU of each token, memory of each stream."""
    settings = {"SERVE_MAX_LLM_REQUESTS": "2048", "SERVE_MAX_WAITING": "2048"}
    with mock(directory, given) as llm, filled(directory, RAG_LLM_URL=llm, **settings) as served:
        replica = next(p for p in served.tree() if "Gateway" in p.name())
        call = Call(f"{served.url}/v1/chat/completions", {**BODY, "stream": True})
        asyncio.run(closed_loop(call, CLIENTS, CLIENTS))
        before, cpu = rss([replica]), _cpu(served.tree())
        timings, most = asyncio.run(_held(call, given.streams, replica))
        tokens = len(timings.totals) * max(1, given.answer_tokens)
        yield {
            "streams": given.streams,
            **timings.report(),
            "rss_kb_a_stream": round((most - before) * 1e3 / given.streams, 1),
            "cpu_us_a_token": round((_cpu(served.tree()) - cpu) / tokens * 1e6, 1),
            "cpu_ms_a_stream": round((_cpu(served.tree()) - cpu) / given.streams * 1e3, 1),
        }


async def _held(call: Call, count: int, replica: psutil.Process) -> tuple[Timings, float]:
    """Open `count` streams at once; return their timings and the replica's largest RSS."""
    work = asyncio.create_task(closed_loop(call, count, count))
    most = 0.0
    while not work.done():
        most = max(most, rss([replica]))
        await asyncio.wait({work}, timeout=0.2)
    return work.result(), most


def loaded(call: Call, requests: int) -> dict[str, Any]:
    """Return the figures of `requests` at `CLIENTS` clients, warmed up."""
    warm = max(CLIENTS, requests // 5)
    return asyncio.run(closed_loop(call, CLIENTS, requests, warm)).report()


@contextmanager
def mock(directory: Path, given: argparse.Namespace) -> Iterator[str]:
    """Run the mock LLM; yield its URL."""
    port = free_port()
    pace = [f"--tokens_per_s={given.tokens_per_s}", f"--answer_tokens={given.answer_tokens}"]
    url = f"http://127.0.0.1:{port}"
    command = ["-m", "contracts.mock_llm", "--port", str(port), *pace]
    with running(command, ready_url=f"{url}/readyz", log=directory / "mock.log"):
        yield url


@contextmanager
def filled(directory: Path, **settings: str) -> Iterator[Gateway]:
    """Run a gateway with one document in it."""
    directory.mkdir(exist_ok=True)
    with gateway(directory, **settings) as served:
        with served.http() as http:
            files = {"file": ("pools.md", DOCUMENT)}
            answer = http.post("/v1/documents", files=files, params={"wait": "60"})
            assert answer.is_success, answer.text
        yield served


@contextmanager
def lcel(directory: Path, settings: Mapping[str, str]) -> Iterator[str]:
    """Serve the pipeline by FastAPI and LangChain; yield its URL."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = ["-m", "uvicorn", "bench.peer_lcel:app", "--port", str(port), "--log-level=error"]
    log = directory / "lcel.log"
    with running(command, ready_url=f"{url}/healthz", log=log, env=settings):
        yield url


@contextmanager
def hayhooks(directory: Path, settings: Mapping[str, str], python: str) -> Iterator[str]:
    """Serve the pipeline by Hayhooks; yield its URL."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    start = "from hayhooks.cli import hayhooks_cli; hayhooks_cli()"
    command = ["-c", start, "run", "--port", str(port), "--pipelines-dir"]
    folder = str(ROOT / "bench/peer_hayhooks")
    env = {
        **settings,
        "HAYHOOKS_LOG_LEVEL": "ERROR",
        "PYTHONPATH": str(ROOT),
        "HAYHOOKS_ADDITIONAL_PYTHON_PATH": str(ROOT),
    }
    log = directory / "hayhooks.log"
    with running([*command, folder], ready_url=f"{url}/status", log=log, env=env, python=python):
        yield url


def rss(processes: list[psutil.Process]) -> float:
    """Return the sum of their resident memory, MB."""
    return round(sum(process.memory_info().rss for process in processes) / 1e6, 1)


def _cpu(processes: list[psutil.Process]) -> float:
    """Return the CPU seconds that they have used."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


if __name__ == "__main__":
    main()
