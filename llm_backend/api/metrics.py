"""Prometheus metrics of the service, under the names in `contracts.telemetry`."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from contracts import telemetry
from llm_backend.runtime import ipc
from llm_backend.runtime.supervisor import State, Status

_TTFT = (0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6)
_ITL = (0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56)
_WHOLE = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250)


class Metrics:
    """One registry for one service, so that tests and embedders may have several."""

    def __init__(self) -> None:
        r = CollectorRegistry()
        self._registry = r
        self.requests = Counter(
            telemetry.LLM_REQUESTS_TOTAL, "Requests answered.", ["outcome"], registry=r
        )
        self.prompt_tokens = Counter(
            telemetry.LLM_PROMPT_TOKENS_TOTAL, "Prompt tokens of answered requests.", registry=r
        )
        self.generated_tokens = Counter(
            telemetry.LLM_GENERATED_TOKENS_TOTAL, "Tokens sent to clients.", registry=r
        )
        self.ttft = Histogram(
            telemetry.LLM_TTFT_SECONDS, "Time to first token.", buckets=_TTFT, registry=r
        )
        self.itl = Histogram(
            telemetry.LLM_ITL_SECONDS, "Inter-token latency.", buckets=_ITL, registry=r
        )
        self.duration = Histogram(
            telemetry.LLM_REQUEST_SECONDS, "Whole request.", buckets=_WHOLE, registry=r
        )
        self._running = Gauge(telemetry.LLM_REQUESTS_RUNNING, "Sequences in a batch.", registry=r)
        self._waiting = Gauge(telemetry.LLM_REQUESTS_WAITING, "Sequences queued.", registry=r)
        self._ready = Gauge(telemetry.LLM_ENGINE_READY, "1 when requests are served.", registry=r)
        self._restarts = Gauge(
            telemetry.LLM_ENGINE_RESTARTS_TOTAL, "Engine failures since start.", registry=r
        )
        self._blocks = Gauge(
            telemetry.LLM_KV_BLOCKS, "KV cache blocks, by state.", ["state"], registry=r
        )
        self._cached = Gauge(
            telemetry.LLM_CACHED_TOKENS_TOTAL, "Prompt tokens the prefix cache saved.", registry=r
        )
        self._preemptions = Gauge(
            telemetry.LLM_PREEMPTIONS_TOTAL, "Sequences that had to give way.", registry=r
        )

    def render(self, status: Status, stats: ipc.Stats) -> bytes:
        """Return the exposition text, with the gauges as they are now."""
        self._running.set(stats.running)
        self._waiting.set(stats.waiting)
        self._ready.set(status.state is State.READY)
        self._restarts.set(status.restarts)
        self._blocks.labels("free").set(stats.free_blocks)
        self._blocks.labels("total").set(stats.total_blocks)
        self._cached.set(stats.cached_tokens)
        self._preemptions.set(stats.preemptions)
        return generate_latest(self._registry)


class RequestTimer:
    """Times one request: first token, gaps, whole."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._began = time.perf_counter()
        self._last: dict[int, float] = {}
        self._generated = 0
        self._done = False

    def tokens(self, index: int, count: int) -> None:
        """Note that `count` tokens of choice `index` have come just now."""
        now = time.perf_counter()
        last = self._last.get(index)
        if last is not None:
            self._metrics.itl.observe((now - last) / max(1, count))
        elif not self._last:
            self._metrics.ttft.observe(now - self._began)
        self._last[index] = now
        self._generated += count

    def finish(self, outcome: str, prompt_tokens: int) -> None:
        """Count the request, once: the first outcome is kept."""
        if self._done:
            return
        self._done = True
        self._metrics.requests.labels(outcome).inc()
        self._metrics.prompt_tokens.inc(prompt_tokens)
        self._metrics.generated_tokens.inc(self._generated)
        self._metrics.duration.observe(time.perf_counter() - self._began)
