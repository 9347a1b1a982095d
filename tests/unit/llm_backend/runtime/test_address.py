from __future__ import annotations

import pytest

from llm_backend.errors import EngineStartError
from llm_backend.runtime import address


def test_the_address_that_was_set() -> None:
    assert address.own_address("127.0.0.1") == "127.0.0.1"


def test_an_address_of_another_host_is_refused() -> None:
    with pytest.raises(EngineStartError, match=r"LLM_ADVERTISE_ADDRESS=192\.0\.2\.77 is no"):
        address.own_address("192.0.2.77")


def test_loopback_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "_resolved", lambda: ["127.0.1.1"])
    monkeypatch.setattr(address, "interfaces", lambda: {"127.0.0.1": "lo", "198.51.100.9": "e"})
    monkeypatch.setattr(address, "_is_ours", lambda _: True)
    assert address.own_address("") == "198.51.100.9"


def test_a_host_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "_resolved", lambda: ["127.0.1.1"])
    monkeypatch.setattr(address, "interfaces", lambda: {"127.0.0.1": "lo"})
    with pytest.raises(EngineStartError, match="set LLM_ADVERTISE_ADDRESS"):
        address.own_address("")


def test_the_interface_of_a_route() -> None:
    assert address.interfaces()["127.0.0.1"] == "lo"
    assert address.interface_towards("127.0.0.1") == "lo"
