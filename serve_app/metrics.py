"""What one gateway replica counts, as Prometheus reads it.

Figures by tenant are in a registry of their own: only keys with the right `admin` see it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from contracts import telemetry

_TTFT = (0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6)

Totals = Callable[[], tuple[int, int, int]]
"""Returns how many run and wait, and the limit."""
ByTenant = Callable[[], Mapping[str, tuple[int, int]]]
"""Returns how many of each tenant run and wait."""


class Metrics:
    """One replica's figures; registries of its own, so that tests may have several."""

    def __init__(self) -> None:
        r, t = CollectorRegistry(), CollectorRegistry()
        self._all, self._tenants = r, t
        self.requests = Counter(
            telemetry.GATEWAY_REQUESTS_TOTAL, "Responses.", ["route", "status"], registry=r
        )
        self.ttft = Histogram(
            telemetry.GATEWAY_TTFT_SECONDS,
            "From asking to the first token, waiting and retrieval included.",
            buckets=_TTFT,
            registry=r,
        )
        self.tokens = Counter(telemetry.GATEWAY_TOKENS_TOTAL, "Tokens.", ["kind"], registry=r)
        self.refused = Counter(
            telemetry.GATEWAY_REFUSED_TOTAL, "Requests refused unserved.", ["reason"], registry=r
        )
        self.degraded = Counter(
            telemetry.GATEWAY_DEGRADED_TOTAL, "Answers without model or passages.", registry=r
        )
        self.held = Gauge(
            telemetry.GATEWAY_HELD, "Requests that wait for a starting model.", registry=r
        )
        self.tenant_requests = Counter(
            telemetry.GATEWAY_TENANT_REQUESTS_TOTAL, "Requests.", ["tenant"], registry=t
        )
        self.tenant_tokens = Counter(
            telemetry.GATEWAY_TENANT_TOKENS_TOTAL, "Tokens.", ["tenant", "kind"], registry=t
        )

    def watch_admission(self, totals: Totals, by_tenant: ByTenant) -> None:
        """Show the admission's figures as they are when somebody looks."""
        self._all.register(_Admission(totals))
        self._tenants.register(_TenantAdmission(by_tenant))

    def count_tokens(self, tenant: str, prompt: int, completion: int) -> None:
        """Count what one answer took."""
        for kind, number in (("prompt", prompt), ("completion", completion)):
            self.tokens.labels(kind).inc(number)
            self.tenant_tokens.labels(tenant, kind).inc(number)

    def render(self, shows: Callable[[str], bool]) -> bytes:
        """Return the exposition text, with the figures of each tenant that `shows` agrees to."""
        return generate_latest(self._all) + generate_latest(_Some(self._tenants, shows))


class _Some(CollectorRegistry):
    """Of a registry, what belongs to some tenants."""

    def __init__(self, whole: CollectorRegistry, shows: Callable[[str], bool]) -> None:
        super().__init__()
        self._whole = whole
        self._shows = shows

    def collect(self) -> Iterator[Metric]:
        for family in self._whole.collect():
            family.samples = [s for s in family.samples if self._shows(s.labels["tenant"])]
            if family.samples:
                yield family


class _Admission(Collector):
    def __init__(self, totals: Totals) -> None:
        self._totals = totals

    def collect(self) -> Iterator[Metric]:
        running, waiting, limit = self._totals()
        yield GaugeMetricFamily(
            telemetry.GATEWAY_ADMISSION_RUNNING, "Requests at the LLM service.", value=running
        )
        yield GaugeMetricFamily(
            telemetry.GATEWAY_ADMISSION_WAITING, "Requests that wait their turn.", value=waiting
        )
        yield GaugeMetricFamily(
            telemetry.GATEWAY_ADMISSION_LIMIT, "Most that may be there at once.", value=limit
        )


class _TenantAdmission(Collector):
    def __init__(self, by_tenant: ByTenant) -> None:
        self._by_tenant = by_tenant

    def collect(self) -> Iterator[Metric]:
        names = (telemetry.GATEWAY_TENANT_RUNNING, telemetry.GATEWAY_TENANT_WAITING)
        found = self._by_tenant()
        for place, name in enumerate(names):
            family = GaugeMetricFamily(name, "Requests.", labels=["tenant"])
            for tenant, counts in found.items():
                family.add_metric([tenant], counts[place])
            yield family
