"""Prometheus metrics of the service, under the names in `contracts.telemetry`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from contracts import telemetry
from llm_backend.errors import RequestError
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
            telemetry.LLM_REQUESTS_TOTAL,
            "Completions asked for: ok, aborted by the client, or the code of an error.",
            ["outcome"],
            registry=r,
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
        self._engine = _Engine()
        r.register(self._engine)

    @contextmanager
    def refusals(self) -> Iterator[None]:
        """Count a request that is refused within, by the code that it is refused with."""
        try:
            yield
        except RequestError as error:
            self.requests.labels(error.code).inc()
            raise

    def render(self, status: Status, stats: ipc.Stats) -> bytes:
        """Return the exposition text, with the engine's own figures as they are now."""
        self._engine.status, self._engine.stats = status, stats
        return generate_latest(self._registry)


class _Engine(Collector):
    """What the engine counts itself; its counters begin anew when it restarts."""

    status: Status | None = None
    stats = ipc.Stats()

    def collect(self) -> Iterator[Metric]:
        """Yield the figures of the last step."""
        stats, status = self.stats, self.status
        ready = status is not None and status.state is State.READY
        yield _gauge(telemetry.LLM_ENGINE_READY, "1 when requests are served.", ready)
        yield _gauge(telemetry.LLM_REQUESTS_RUNNING, "Sequences in a batch.", stats.running)
        yield _gauge(telemetry.LLM_REQUESTS_WAITING, "Sequences queued.", stats.waiting)
        blocks = GaugeMetricFamily(telemetry.LLM_KV_BLOCKS, "KV cache blocks.", labels=["state"])
        blocks.add_metric(["free"], stats.free_blocks)
        blocks.add_metric(["total"], stats.total_blocks)
        yield blocks
        restarts = status.restarts if status is not None else 0
        yield _counter(telemetry.LLM_ENGINE_RESTARTS_TOTAL, "Engine failures.", restarts)
        yield _counter(
            telemetry.LLM_CACHED_TOKENS_TOTAL, "Prompt tokens cached.", stats.cached_tokens
        )
        yield _counter(telemetry.LLM_PREEMPTIONS_TOTAL, "Sequences pre-empted.", stats.preemptions)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=float(value))


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name.removesuffix("_total"), text, value=float(value))


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
        """Count the request, once: the first outcome is kept.

        Args:
            outcome: "ok", "aborted" by a client that left, or an error's code.
            prompt_tokens: counted if it was answered.
        """
        if self._done:
            return
        self._done = True
        self._metrics.requests.labels(outcome).inc()
        if outcome == "ok":
            self._metrics.prompt_tokens.inc(prompt_tokens)
        self._metrics.generated_tokens.inc(self._generated)
        self._metrics.duration.observe(time.perf_counter() - self._began)
