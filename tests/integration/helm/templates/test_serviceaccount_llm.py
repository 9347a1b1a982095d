from __future__ import annotations

from tests.support import chart


def test_it_carries_the_managed_identity_and_no_token() -> None:
    account = chart.one(chart.rendered("prod"), "ServiceAccount", "isthmus-llm")
    client = account["metadata"]["annotations"]["azure.workload.identity/client-id"]
    assert client == "00000000-0000-0000-0000-000000000002"
    assert account["automountServiceAccountToken"] is False


def test_without_an_identity_there_is_no_annotation() -> None:
    account = chart.one(chart.rendered("default"), "ServiceAccount", "isthmus-llm")
    assert "annotations" not in account["metadata"]
