from __future__ import annotations

from tests.support import chart
from tests.support.network import RAY, TEST, Network, Peer


def test_an_address_is_opened_for_ray_pods_alone() -> None:
    net = Network(chart.rendered("external-ip"))
    assert net.allows(RAY, Peer(address="10.1.2.3"), 8001)
    assert not net.allows(RAY, Peer(address="10.1.2.4"), 8001)
    assert not net.allows(TEST, Peer(address="10.1.2.3"), 8001)


def test_a_host_opens_the_port() -> None:
    net = Network(chart.rendered("dev"))
    assert net.allows(RAY, Peer(address="20.0.0.1"), 8001)
    assert not net.allows(RAY, Peer(address="20.0.0.1"), 8002)


def test_no_other_backend_opens_it() -> None:
    assert not Network(chart.rendered("prod")).allows(RAY, Peer(address="20.0.0.1"), 8001)
