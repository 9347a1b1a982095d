"""The gateway over the least that Ray Serve does, with retrieval and LLM stubbed. Prints JSON.

    python -m bench.gateway_floor --requests 600 --rounds 5

What is served is in `bench.gateway_stubs`: all of it behind one HAProxy, asked in turns by 32
clients in a closed loop on the same cores.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path

from bench.gateway import BODY, loaded, mock
from bench.http_load import Call
from rag_graph.settings import RagSettings
from serve_app import ingress
from serve_app.main import RAY_ENVIRONMENT
from serve_app.settings import ServeSettings
from tests.support.processes import free_port, running
from tests.support.serve import START_SECONDS, environment

PATHS = {
    "one empty handle call": "/floor",
    "the same in a graph of two nodes": "/graph",
    "gateway, retriever and model stubbed": "/stubs/v1/chat/completions",
    "gateway, retriever stubbed, mock LLM": "/mock/v1/chat/completions",
}
FLOOR = next(iter(PATHS))


def main() -> None:
    """Print requests/s of each, and their ratio to the floor's of the same round."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", action="store_true", help="only serve, as this bench starts it")
    given = parser.parse_args(namespace=argparse.Namespace(tokens_per_s=0, answer_tokens=0))
    if given.serve:
        serve()
        return
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        rounds = measured(Path(directory), given)
    for what in PATHS:
        rates = [one[what] for one in rounds]
        ratios = [round(one[what] / one[FLOOR], 3) for one in rounds]
        median = statistics.median(rates)
        print(json.dumps({"what": what, "requests_per_s": rates, "median": median, "over": ratios}))


def measured(directory: Path, given: argparse.Namespace) -> list[dict[str, float]]:
    """Return the requests/s of each, round by round."""
    port, log = free_port(), directory / "stubs.log"
    url = f"http://127.0.0.1:{port}"
    ready = f"{url}/mock/healthz"  # the last to be there
    command = ["-m", "bench.gateway_floor", "--serve"]
    with mock(directory, given) as llm:
        env = environment(directory, port, RAG_LLM_URL=llm)
        with running(command, ready_url=ready, log=log, env=env, seconds=START_SECONDS):
            calls = {what: Call(url + path, BODY) for what, path in PATHS.items()}
            return [_round(calls, given.requests) for _ in range(given.rounds)]


def _round(calls: dict[str, Call], requests: int) -> dict[str, float]:
    rates = {}
    for what, call in calls.items():
        figures = loaded(call, requests)
        assert not figures["errors"], (what, figures)
        rates[what] = figures["requests_per_s"]
    return rates


def serve() -> None:
    """Serve until an interrupt comes."""
    for name, value in RAY_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    settings = ServeSettings()
    with ingress.prepared(settings):
        from bench import gateway_stubs  # imports Ray Serve, which reads its environment then

        gateway_stubs.run(settings, RagSettings())


if __name__ == "__main__":
    main()
