"""Autoscaling of the gateway that sees the LLM service.

Ray Serve adds gateway replicas while more requests are ongoing than they should have. When the LLM
service is the bottleneck, requests pile up in the gateway whatever its number: more CPU replicas
would cost money and serve nobody. This policy asks for what Serve's own would, but never for more
than there are while the LLM service is full:

* questions wait for it in the gateway's own queues, as the replicas report; or
* at most of the last looks at its `/metrics` something waited there (`llm_limit` keeps that queue
  short, not empty), or its first tokens took too long.

    autoscaling_config:
      policy:
        policy_function: serve_app.autoscaling:LLMAware

Serve's controller runs it, with Serve's delays, factors and bounds around it. Looking at `/metrics`
is a thread's, so that the controller never waits.
"""

from __future__ import annotations

import logging
import ssl
import threading
import time
import urllib.request
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ray.serve.autoscaling_policy import replica_queue_length_autoscaling_policy
from ray.serve.config import AutoscalingContext
from ray.util.metrics import Gauge

from contracts import telemetry, tls
from rag_graph.settings import RagSettings

LOOKS = 5
MOST = 3
"""Looks, of the last `LOOKS`, at which it has to be full: one look may come in a lucky moment."""
WAITING = "llm_waiting"
"""What a replica reports: how many of its requests wait for the LLM service."""
TIMEOUT_S = 2.0

logger = logging.getLogger("ray.serve")


@dataclass(frozen=True)
class Look:
    """What the LLM service said at one time, all endpoints together."""

    at: float
    """Seconds since the epoch."""
    waiting: float
    ttft_s: float | None
    """Mean time to the first token since the look before; None when there was none."""


def bottleneck(looks: Sequence[Look], now: float, stale_s: float, max_ttft_s: float) -> str | None:
    """Return why the LLM service is the bottleneck, or None when it is not, or unknown."""
    fresh = [look for look in looks if now - look.at <= stale_s][-LOOKS:]
    if sum(look.waiting >= 1 for look in fresh) >= MOST:
        return f"{fresh[-1].waiting:g} sequences wait there"
    slow = [look.ttft_s for look in fresh if look.ttft_s is not None and look.ttft_s > max_ttft_s]
    return f"its first tokens take {slow[-1]:.1f} s" if len(slow) >= MOST else None


class LLMAware:
    """The policy. Serve makes one for a deployment, with the config's `policy_kwargs`."""

    def __init__(
        self, llm_url: str = "", look_every_s: float = 5.0, max_ttft_s: float = 2.0
    ) -> None:
        """Make a policy; nothing is looked at before the first decision.

        Args:
            llm_url: the LLM service's addresses, separated by commas; empty: those of RAG_LLM_URL.
            look_every_s: seconds between two looks at its /metrics.
            max_ttft_s: seconds to the first token above which it is the bottleneck.
        """
        settings = RagSettings(llm_url=llm_url) if llm_url else RagSettings()
        self._urls = [url.removesuffix("/").removesuffix("/v1") for url in settings.llm_tiers[0]]
        self._tls = tls.client_context(settings.llm_tls) if settings.llm_tls else None
        self._look_every_s = look_every_s
        self._max_ttft_s = max_ttft_s
        self._looks: deque[Look] = deque(maxlen=LOOKS)
        self._started = False
        self._held = False
        self._gauge = Gauge(
            telemetry.GATEWAY_SCALING_HELD,
            description="1 while no replica is added because the LLM service is the bottleneck.",
        )

    def __call__(self, ctx: AutoscalingContext) -> tuple[int | float, dict[str, Any]]:
        """Return how many replicas there should be."""
        wanted, state = replica_queue_length_autoscaling_policy(ctx)
        there = ctx.target_num_replicas
        reason = self.reason(ctx.current_time or time.time()) or _queued(ctx)
        if wanted <= there:
            reason = None
        self._tell(ctx.deployment_name, wanted, there, reason)
        return (wanted if reason is None else there), state

    def reason(self, now: float) -> str | None:
        """Return why the LLM service is the bottleneck, or None."""
        if not self._started and self._urls:
            self._started = True
            self._begin_looking()
        return bottleneck(list(self._looks), now, 2 * LOOKS * self._look_every_s, self._max_ttft_s)

    def _tell(self, name: str, wanted: float, there: int, reason: str | None) -> None:
        held = reason is not None
        self._gauge.set(float(held))
        if held and not self._held:
            logger.info(
                "%s stays at %d replicas instead of %.1f: the LLM service is the bottleneck, %s.",
                name, there, wanted, reason,
            )  # fmt: skip
        elif self._held and not held:
            logger.info("%s may grow again: the LLM service is not the bottleneck.", name)
        self._held = held

    def _begin_looking(self) -> None:
        stop = threading.Event()
        arguments = (self._looks, self._urls, self._tls, self._look_every_s, stop)
        threading.Thread(target=_look, args=arguments, name="llm-looks", daemon=True).start()
        weakref.finalize(self, stop.set)  # a changed config makes a new policy


def _queued(ctx: AutoscalingContext) -> str | None:
    """Return how many wait in the gateway's own queues, if any do."""
    waiting = sum((ctx.aggregated_metrics or {}).get(WAITING, {}).values())
    return f"{waiting:.0f} questions wait for it" if waiting >= 1 else None


def _look(
    looks: deque[Look],
    urls: Sequence[str],
    context: ssl.SSLContext | None,
    every_s: float,
    stop: threading.Event,
) -> None:
    """Look at the services until told to stop. Holds no policy, so that one can be collected."""
    mean = _MeanSince()
    while not stop.is_set():
        texts = [text for url in urls if (text := _fetch(url, context)) is not None]
        if texts:
            looks.append(read(texts, time.time(), mean))
        stop.wait(every_s)


def read(texts: Sequence[str], now: float, mean: Callable[[float, float], float | None]) -> Look:
    """Return what the /metrics `texts` of the endpoints say together."""
    values: dict[str, float] = {}
    for line in (line for text in texts for line in text.splitlines()):
        name, _, value = line.rpartition(" ")
        if name and not line.startswith("#"):
            values[name] = values.get(name, 0.0) + float(value)
    ttft = telemetry.LLM_TTFT_SECONDS
    return Look(
        now,
        values.get(telemetry.LLM_REQUESTS_WAITING, 0.0),
        mean(values.get(f"{ttft}_sum", 0.0), values.get(f"{ttft}_count", 0.0)),
    )


class _MeanSince:
    """The mean of what a summary counted since it was last asked."""

    def __init__(self) -> None:
        self._sum, self._count = 0.0, 0.0

    def __call__(self, total: float, count: float) -> float | None:
        more, number = total - self._sum, count - self._count
        self._sum, self._count = total, count
        return more / number if number > 0 and more >= 0 else None


def _fetch(url: str, context: ssl.SSLContext | None) -> str | None:
    """Return an endpoint's /metrics, or None when it does not answer."""
    try:
        with urllib.request.urlopen(f"{url}/metrics", timeout=TIMEOUT_S, context=context) as reply:  # noqa: S310
            text: str = reply.read().decode()
            return text
    except (OSError, ValueError) as error:
        logger.warning("The LLM service's %s/metrics cannot be read: %s", url, error)
        return None
