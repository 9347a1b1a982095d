from __future__ import annotations

from tests.support import chart
from tests.support.network import JOB, LLM, RAY, STRANGER, TEST, Network, Peer


def test_the_llm_port_is_for_ray_pods() -> None:
    net = Network(chart.rendered("prod"))
    assert net.allows(RAY, LLM, 8001)
    for other in (STRANGER, TEST, JOB, Peer(namespace="app-routing-system")):
        assert not net.allows(other, LLM, 8001), other
    assert net.allows(Peer(namespace="monitoring"), LLM, 8001)


def test_ranks_reach_each_other_by_ssh_and_nccl() -> None:
    net = Network(chart.rendered("ranks-on-hosts"))
    for port in (2222, 1024, 45678):
        assert net.allows(LLM, LLM, port)
    assert not net.allows(RAY, LLM, 2222)
    assert not net.allows(RAY, LLM, 45678)


def test_ranks_leave_for_their_weights_only() -> None:
    blob, share = Network(chart.rendered("spot")), Network(chart.rendered("prod"))
    assert blob.allows(LLM, Peer(address="20.0.0.1"), 443)
    assert not share.allows(LLM, Peer(address="20.0.0.1"), 443)  # the node mounts the share
    assert not blob.allows(LLM, RAY, 8000)
    assert blob.allows(LLM, Peer(namespace="kube-system"), 53)
