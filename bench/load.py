"""Load generator for any OpenAI-compatible chat endpoint.

    python -m bench.load http://127.0.0.1:8001/v1 --clients 8 --requests 64
    python -m bench.load http://127.0.0.1:8001/v1 --rate 4 --requests 100

A closed loop (`--clients`) keeps that many requests in flight; an open loop (`--rate`) sends at
exponentially spaced times whatever the server does. A request counts as served only if its status
was 200, its stream said why it ended (not every peer sends [DONE] too), and its token count is the
one asked for.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import httpx

from bench.workload import Workload
from contracts import sse


@dataclass(slots=True)
class Sample:
    """One request as its client saw it; times in seconds from when it was sent."""

    sent_at: float
    token_times: list[float] = field(default_factory=list)
    prompt_tokens: int = 0
    output_tokens: int = 0
    total_s: float = 0.0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """Figures of one run. Latencies in milliseconds, of served requests only."""

    served: int
    failed: int
    errors: dict[str, int]
    wall_s: float
    output_tokens: int
    prompt_tokens_mean: float
    tokens_per_s: float
    requests_per_s: float
    ttft_ms: dict[str, float]
    itl_ms: dict[str, float]
    total_ms: dict[str, float]


async def closed_loop(
    client: httpx.AsyncClient,
    workload: Workload,
    clients: int,
    requests: int,
    extra: dict[str, Any],
) -> list[Sample]:
    """Send `requests` requests, `clients` at a time."""
    numbers = iter(range(requests))

    async def one_client() -> list[Sample]:
        return [await _ask(client, {**workload.request(n), **extra}) for n in numbers]

    groups = await asyncio.gather(*(one_client() for _ in range(clients)))
    return list(itertools.chain.from_iterable(groups))


async def open_loop(
    client: httpx.AsyncClient,
    workload: Workload,
    rate_per_s: float,
    requests: int,
    extra: dict[str, Any],
) -> list[Sample]:
    """Send `requests` requests at Poisson arrivals of `rate_per_s`."""
    rng = random.Random(workload.seed)
    async with asyncio.TaskGroup() as group:
        tasks = []
        for number in range(requests):
            body = {**workload.request(number), **extra}
            tasks.append(group.create_task(_ask(client, body)))
            await asyncio.sleep(rng.expovariate(rate_per_s))
    return [task.result() for task in tasks]


def report(samples: Sequence[Sample], wall_s: float) -> Report:
    """Return the figures of a run that took `wall_s` seconds."""
    good = [s for s in samples if s.error is None]
    gaps = [b - a for s in good for a, b in itertools.pairwise(s.token_times)]
    tokens = sum(s.output_tokens for s in good)
    return Report(
        served=len(good),
        failed=len(samples) - len(good),
        errors=dict(Counter(s.error for s in samples if s.error)),
        wall_s=round(wall_s, 3),
        output_tokens=tokens,
        prompt_tokens_mean=round(statistics.fmean(s.prompt_tokens for s in good), 1) if good else 0,
        tokens_per_s=round(tokens / wall_s, 1),
        requests_per_s=round(len(good) / wall_s, 2),
        ttft_ms=_percentiles([s.token_times[0] for s in good if s.token_times]),
        itl_ms=_percentiles(gaps),
        total_ms=_percentiles([s.total_s for s in good]),
    )


async def _ask(client: httpx.AsyncClient, body: dict[str, Any]) -> Sample:
    sample = Sample(sent_at=time.perf_counter())
    try:
        async with client.stream("POST", "chat/completions", json=body) as response:
            if response.status_code != 200:
                await response.aread()
                sample.error = f"status {response.status_code}"
                return sample
            done = await _read(response.aiter_bytes(), sample)
    except (httpx.HTTPError, json.JSONDecodeError) as error:
        sample.error = type(error).__name__
        return sample
    sample.total_s = time.perf_counter() - sample.sent_at
    if not done:
        sample.error = sample.error or "stream ended without a reason"
    elif sample.output_tokens != body["max_tokens"]:
        sample.error = f"{sample.output_tokens} tokens instead of {body['max_tokens']}"
    return sample


async def _read(chunks: AsyncIterator[bytes], sample: Sample) -> bool:
    """Read one stream into `sample`; return whether it ended as it should."""
    finished = False
    async for event in sse.decode(chunks):
        if event.data == sse.DONE:
            break
        frame = json.loads(event.data)
        if "error" in frame:
            sample.error = f"error frame {frame['error'].get('code')}"
            continue
        for choice in frame.get("choices") or ():
            finished = finished or choice.get("finish_reason") is not None
            if choice["delta"].get("content"):
                sample.token_times.append(time.perf_counter() - sample.sent_at)
        if usage := frame.get("usage"):
            sample.prompt_tokens = usage["prompt_tokens"]
            sample.output_tokens = usage["completion_tokens"]
    return finished and sample.error is None


def _percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Return p50, p95, p99 and the maximum in milliseconds; empty when there is nothing."""
    ordered = sorted(seconds)
    if not ordered:
        return {}
    marks = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    last = len(ordered) - 1
    return {name: round(1000 * ordered[round(q * last)], 2) for name, q in marks.items()}


async def run(
    url: str,
    workload: Workload,
    *,
    requests: int,
    clients: int = 1,
    rate_per_s: float | None = None,
    extra: dict[str, Any] | None = None,
) -> Report:
    """Load the endpoint under `url` and return the figures."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    base = url.rstrip("/") + "/"
    async with httpx.AsyncClient(base_url=base, limits=limits, timeout=600) as client:
        begin = time.perf_counter()
        if rate_per_s is None:
            samples = await closed_loop(client, workload, clients, requests, extra or {})
        else:
            samples = await open_loop(client, workload, rate_per_s, requests, extra or {})
        return report(samples, time.perf_counter() - begin)


def main() -> None:
    """Run one load from the command line and print its figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("url", help="base URL that ends in /v1")
    parser.add_argument("--model", help="model id; the first of /v1/models if not given")
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--rate", type=float, help="requests a second: an open loop")
    parser.add_argument("--requests", type=int, default=32)
    parser.add_argument("--output-tokens", type=int, default=64)
    parser.add_argument("--no-shared-prefix", action="store_true")
    parser.add_argument("--extra", type=json.loads, default={"ignore_eos": True})
    arguments = parser.parse_args()
    model = arguments.model
    if model is None:
        models = httpx.get(f"{arguments.url}/models").raise_for_status().json()
        model = models["data"][0]["id"]
    workload = Workload(model, arguments.output_tokens, not arguments.no_shared_prefix)
    figures = asyncio.run(
        run(
            arguments.url,
            workload,
            requests=arguments.requests,
            clients=arguments.clients,
            rate_per_s=arguments.rate,
            extra=arguments.extra,
        )
    )
    print(json.dumps(asdict(figures), indent=1))


if __name__ == "__main__":
    main()
