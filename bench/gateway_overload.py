"""The gateway under more load than its LLM service can take, and one tenant against another.

    python -m bench.gateway_overload

Starts the application on a Ray of its own over the mock LLM with a batch of 16 sequences at 30
tokens/s, then measures, each as one line of JSON:

* peak: requests answered a second while just enough clients ask;
* overload: the same at five times the peak's rate, sent whatever comes back; how fast refusals are;
* recovery: seconds until a question is answered again as fast as on the idle system;
* fairness: a quiet tenant's p95 alone, and while another floods.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.support.cluster import Cluster, cluster
from tests.support.processes import free_port, running

SEQUENCES, TOKENS_PER_S, TOKENS = 16, 30, 60
LENGTHS = (40, 60, 80)
"""Tokens of a flood's answers, `TOKENS` on average: as in life, they do not end all at once."""
POOLS = "# Node pools\n\nThe GPU node pools carry the taint sku=gpu:NoSchedule.\n"
QUESTION = "Which taint do the GPU node pools carry?"
TENANTS = ("quiet", "flood")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request as its client saw it; `status` is 0 where no whole answer came."""

    status: int
    seconds: float
    ended_at: float


async def ask(client: httpx.AsyncClient, tenant: str, most_tokens: int = TOKENS) -> Outcome:
    """Ask once, for an answer of `most_tokens` at most."""
    messages = [{"role": "user", "content": QUESTION}]
    body = {"model": "isthmus", "messages": messages, "max_tokens": most_tokens}
    sent = {"authorization": f"Bearer {tenant}"}
    began = time.perf_counter()
    try:
        response = await client.post("/v1/chat/completions", json=body, headers=sent)
        status = response.status_code
    except httpx.HTTPError:
        status = 0
    ended = time.perf_counter()
    return Outcome(status, ended - began, ended)


async def closed(
    client: httpx.AsyncClient, tenant: str, clients: int, seconds: float, tokens: int = TOKENS
) -> list[Outcome]:
    """Ask with `clients` at once, each again when it has its answer."""
    end = time.perf_counter() + seconds

    async def one() -> list[Outcome]:
        seen = []
        while time.perf_counter() < end:
            seen.append(await ask(client, tenant, tokens))
        return seen

    groups = await asyncio.gather(*(one() for _ in range(clients)))
    return [outcome for group in groups for outcome in group]


async def flood(
    client: httpx.AsyncClient,
    tenant: str,
    rate_per_s: float,
    seconds: float,
    lengths: Sequence[int] = LENGTHS,
) -> list[Outcome]:
    """Ask `rate_per_s` times a second, whatever comes back, for answers of different lengths."""
    begin, tasks, rng = time.perf_counter(), [], random.Random(1)
    for number in range(int(rate_per_s * seconds)):
        await asyncio.sleep(max(0.0, begin + number / rate_per_s - time.perf_counter()))
        tasks.append(asyncio.create_task(ask(client, tenant, rng.choice(lengths))))
    return list(await asyncio.gather(*tasks))


def percentile(seconds: Sequence[float], q: float) -> float:
    """Return a percentile in milliseconds."""
    ordered = sorted(seconds)
    return round(1000 * ordered[min(len(ordered) - 1, int(q * len(ordered)))], 1)


def goodput(outcomes: Sequence[Outcome], begin: float, end: float) -> float:
    """Return the answers a second that came between two times."""
    return sum(o.status == 200 and begin <= o.ended_at < end for o in outcomes) / (end - begin)


async def admission(client: httpx.AsyncClient) -> dict[str, float]:
    """Return what a replica says of its admission now: running, waiting, limit."""
    lines = (await client.get("/metrics")).text.splitlines()
    prefix = "isthmus_gateway_admission_"
    rows = (line.removeprefix(prefix).split() for line in lines if line.startswith(prefix))
    return {name: float(value) for name, value in rows}


async def overload(client: httpx.AsyncClient, seconds: float) -> dict[str, Any]:
    """Measure the peak, five times the peak, and what is left of it afterwards."""
    idle = (await ask(client, "flood")).seconds
    warm_s = 2 * TOKENS / TOKENS_PER_S
    begin = time.perf_counter()
    calm = await closed(client, "flood", SEQUENCES, seconds)
    peak = goodput(calm, begin + warm_s, begin + seconds)
    begin = time.perf_counter()
    flooding = asyncio.create_task(flood(client, "flood", 5 * peak, seconds))
    await asyncio.sleep(seconds * 0.8)
    inside = await admission(client)
    outcomes = await flooding
    served = goodput(outcomes, begin + warm_s, begin + seconds)
    stopped = time.perf_counter()
    after = await ask(client, "flood")
    refused = [o.seconds for o in outcomes if o.status in (429, 503)]
    return {
        "peak_per_s": round(peak, 2),
        "offered_per_s": round(5 * peak, 1),
        "goodput_per_s": round(served, 2),
        "kept": round(served / peak, 3),
        "admission": inside,
        "statuses": dict(Counter(o.status for o in outcomes)),
        "calm_statuses": dict(Counter(o.status for o in calm)),
        "refused_ms": {f"p{q}": percentile(refused, q / 100) for q in (50, 95, 99)},
        "idle_s": round(idle, 2),
        "after_s": round(after.seconds, 2),
        "recovered_s": round(after.ended_at - stopped - idle, 2),
    }


async def fairness(client: httpx.AsyncClient, rate_per_s: float, seconds: float) -> dict[str, Any]:
    """Measure a quiet tenant alone, and while another floods."""
    alone = await closed(client, "quiet", 2, seconds)
    flooding = asyncio.create_task(flood(client, "flood", rate_per_s, seconds + 6))
    await asyncio.sleep(2 * TOKENS / TOKENS_PER_S)
    beside = await closed(client, "quiet", 2, seconds)
    others = await flooding
    before, during = (percentile([o.seconds for o in s], 0.95) for s in (alone, beside))
    return {
        "alone_p95_ms": before,
        "flooded_p95_ms": during,
        "rise": round(during / before - 1, 3),
        "quiet_requests": len(beside),
        "quiet_statuses": dict(Counter(o.status for o in (*alone, *beside))),
        "flood_statuses": dict(Counter(o.status for o in others)),
    }


def key_file(directory: Path) -> Path:
    """Write keys for `TENANTS`, whose secrets are their names."""
    path = directory / "keys.json"
    keys = [
        {
            "sha256": hashlib.sha256(tenant.encode()).hexdigest(),
            "tenant": tenant,
            "rights": ["ask", "ingest"],
            "collections": ["*"],
        }
        for tenant in TENANTS
    ]
    path.write_text(json.dumps({"keys": keys}))
    return path


def add_document(system: Cluster) -> None:
    """Put one document in and wait until it is found: without it no question reaches the LLM."""
    with system.http(headers={"authorization": "Bearer quiet"}) as http:
        added = http.post("/v1/documents?wait=60", files={"file": ("pools.md", POOLS)})
        assert added.is_success, added.text
        assert added.json()["status"] == "done", added.text


def clients_of(system: Cluster) -> httpx.AsyncClient:
    """Return a client without any limit on its connections."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    return httpx.AsyncClient(base_url=system.url, timeout=60, limits=limits)


async def measure(system: Cluster, seconds: float) -> None:
    """Print one line of JSON for each measurement."""
    (replica,) = system.replicas()
    async with clients_of(system) as client:
        await closed(client, "quiet", 4, 3)
        before = psutil.Process(replica.pid).memory_info().rss
        result = await overload(client, seconds)
        grown = psutil.Process(replica.pid).memory_info().rss - before
        print(json.dumps({"overload": result, "replica_grew_mb": round(grown / 1e6, 1)}))
        print(json.dumps({"fairness": await fairness(client, result["offered_per_s"], seconds)}))


def main() -> None:
    """Run all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="of each measurement")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="overload-") as folder:
        directory, port = Path(folder), free_port()
        mock = f"http://127.0.0.1:{port}"
        options = {
            "port": port,
            "max_num_seqs": SEQUENCES,
            "tokens_per_s": TOKENS_PER_S,
            "answer_tokens": max(LENGTHS),
        }
        with (
            running(
                ["-m", "contracts.mock_llm", *(f"--{k}={v}" for k, v in options.items())],
                ready_url=f"{mock}/readyz",
                log=directory / "mock.log",
            ),
            cluster(
                directory,
                [],
                RAG_LLM_URL=mock,
                SERVE_API_KEYS_FILE=str(key_file(directory)),
                SERVE_MAX_WAITING="16",
            ) as system,
        ):
            add_document(system)
            asyncio.run(measure(system, given.seconds))


if __name__ == "__main__":
    main()
