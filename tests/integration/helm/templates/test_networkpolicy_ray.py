from __future__ import annotations

import pytest

from tests.support import chart
from tests.support.network import LLM, RAY, STRANGER, Network, Peer


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


def test_without_redis_and_storage_their_ports_stay_shut() -> None:
    net = Network(chart.rendered("default"))
    assert not net.allows(RAY, Peer(namespace="redis"), 6379)


def test_a_managed_redis_is_reached_by_address() -> None:
    net = Network(chart.rendered("secrets-and-people"))
    assert net.allows(RAY, Peer(address="10.0.0.9"), 6379)
    assert not net.allows(RAY, Peer(address="10.0.1.9"), 6379)
