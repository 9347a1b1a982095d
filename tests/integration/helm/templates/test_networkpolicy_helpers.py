from __future__ import annotations

from tests.support import chart
from tests.support.network import JOB, LLM, RAY, STRANGER, TEST, Network, Peer


def test_the_test_pod_reaches_the_gateway_but_not_the_llm() -> None:
    net = Network(chart.rendered("prod"))
    assert net.allows(TEST, RAY, 8000)
    assert not net.allows(TEST, RAY, 8265)
    assert not net.allows(TEST, LLM, 8001)
    assert not net.allows(STRANGER, TEST, 80)


def test_the_fill_job_reaches_storage_and_nothing_else() -> None:
    net = Network(chart.rendered("prod"))
    assert net.allows(JOB, Peer(address="20.0.0.1"), 443)
    assert not net.allows(JOB, LLM, 8001)
    assert not net.allows(JOB, RAY, 8000)
