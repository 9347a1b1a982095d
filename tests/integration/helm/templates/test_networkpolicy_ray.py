from __future__ import annotations

import pytest

from tests.support import chart
from tests.support.network import LLM, RAY, STRANGER, TEST, Network, Peer


def test_haproxy_ports_are_open_between_ray_pods_only() -> None:
    net = Network(chart.rendered("prod"))
    assert net.allows(RAY, RAY, 30500)
    assert not net.allows(LLM, RAY, 30500)
    assert not net.allows(STRANGER, RAY, 30500)


@pytest.mark.parametrize(
    ("namespace", "port", "allowed"),
    [
        ("app-routing-system", 8000, True),
        ("app-routing-system", 8265, False),
        ("kuberay-operator", 8265, True),
        ("monitoring", 8080, True),
        ("default", 8000, False),
        ("default", 10001, False),
    ],
)
def test_who_reaches_ray_from_other_namespaces(namespace: str, port: int, allowed: bool) -> None:
    assert Network(chart.rendered("prod")).allows(Peer(namespace=namespace), RAY, port) is allowed


@pytest.mark.parametrize(
    ("peer", "port", "allowed"),
    [
        (Peer(namespace="kube-system"), 53, True),
        (Peer(namespace="redis"), 6379, True),
        (Peer(namespace="redis"), 22, False),
        (Peer(address="20.0.0.1"), 443, True),
        (Peer(address="20.0.0.1"), 80, False),
        (Peer(namespace="default"), 443, False),
    ],
)
def test_where_ray_may_go(peer: Peer, port: int, allowed: bool) -> None:
    assert Network(chart.rendered("prod")).allows(RAY, peer, port) is allowed


def test_the_gateway_of_an_incremental_upgrade_reaches_ray() -> None:
    gateway = Peer({"gateway.networking.k8s.io/gateway-name": "isthmus-gateway"})
    assert Network(chart.rendered("gateway-api")).allows(gateway, RAY, 8000)
    assert Network(chart.rendered("gateway-api")).allows(TEST, gateway, 80)
    assert not Network(chart.rendered("prod")).allows(gateway, RAY, 8000)


def test_what_the_settings_reach_can_be_opened() -> None:
    """A PostgreSQL for conversations, an identity provider, another model: outside, by address."""
    egress = [{"cidr": "10.3.0.4/32", "port": 5432}, {"cidr": "0.0.0.0/0", "port": 8443}]
    net = Network(chart.render({"networkPolicy": {"rayEgress": egress}}, "values-prod.yaml"))
    assert net.allows(RAY, Peer(address="10.3.0.4"), 5432)
    assert not net.allows(RAY, Peer(address="10.3.0.5"), 5432)
    assert net.allows(RAY, Peer(address="20.1.1.1"), 8443)
    assert not net.allows(LLM, Peer(address="10.3.0.4"), 5432)


def test_without_redis_and_storage_their_ports_stay_shut() -> None:
    net = Network(chart.rendered("default"))
    assert not net.allows(RAY, Peer(namespace="redis"), 6379)


def test_a_managed_redis_is_reached_by_address() -> None:
    net = Network(chart.rendered("secrets-and-people"))
    assert net.allows(RAY, Peer(address="10.0.0.9"), 6379)
    assert not net.allows(RAY, Peer(address="10.0.1.9"), 6379)
