"""How long `scripts/up` takes to a served answer, and what each side holds in memory.

    python -m bench.main_job [--ranks 1]

Starts the system on free ports with a store of its own, asks until the gateway answers a question
with a citation, reads the memory of every process, interrupts it, and prints the figures as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import psutil

from bench.llm import free_port

ROOT = Path(__file__).resolve().parents[1]
QUESTION = "Which taint do the GPU node pools carry?"
LIMIT_S = 600


def answered(gateway: str) -> bool:
    """Whether the gateway now answers the question and cites a source."""
    messages = [{"role": "user", "content": QUESTION}]
    body = {"model": "isthmus", "messages": messages, "max_tokens": 48, "temperature": 0}
    try:
        response = httpx.post(f"{gateway}/v1/chat/completions", json=body, timeout=60)
    except httpx.TransportError:
        return False
    return response.status_code == 200 and bool(response.json().get("citations"))


def memory(root: psutil.Process) -> dict[str, Any]:
    """Return resident and proportional set sizes in MB of the LLM service and of the rest."""
    sides: dict[str, dict[str, float]] = {}
    llm = {p.pid for p in _llm_processes(root)}
    for process in [root, *root.children(recursive=True)]:
        side = sides.setdefault(
            "llm" if process.pid in llm else "serve", {"rss_mb": 0, "pss_mb": 0, "processes": 0}
        )
        info = process.memory_full_info()
        side["rss_mb"] += round(info.rss / 1e6, 1)
        side["pss_mb"] += round(info.pss / 1e6, 1)
        side["processes"] += 1
    return sides


def _llm_processes(root: psutil.Process) -> list[psutil.Process]:
    for process in root.children(recursive=True):
        if "llm_backend.inference_server" in process.cmdline():
            return [process, *process.children(recursive=True)]
    raise RuntimeError("no LLM service among the processes of scripts/up")


def main() -> None:
    """Measure once and print."""
    parser = argparse.ArgumentParser(description="scripts/up: time to an answer, memory")
    parser.add_argument("--ranks", type=int, default=1)
    ranks = parser.parse_args().ranks
    gateway = f"http://127.0.0.1:{(port := free_port())}"
    with tempfile.TemporaryDirectory() as directory, Path(directory, "log").open("wb") as log:
        environment = {
            **os.environ,
            "SERVE_PORT": str(port),
            "LLM_PORT": str(free_port()),
            "RAG_STORE_URI": f"{directory}/store",
            "LLM_TENSOR_PARALLEL": str(ranks),
        }
        begin = time.perf_counter()
        process = subprocess.Popen(
            [str(ROOT / "scripts/up")], env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            while not answered(gateway):
                if process.poll() is not None or time.perf_counter() - begin > LIMIT_S:
                    raise RuntimeError(Path(log.name).read_text()[-4000:])
                time.sleep(0.25)
            figures: dict[str, Any] = {"seconds_to_answer": round(time.perf_counter() - begin, 1)}
            figures.update(memory(psutil.Process(process.pid)))
        finally:
            process.send_signal(signal.SIGINT)
            stop = time.perf_counter()
            process.wait(60)
        figures["seconds_to_stop"] = round(time.perf_counter() - stop, 1)
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
