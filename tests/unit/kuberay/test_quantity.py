from __future__ import annotations

from decimal import Decimal

import pytest

from kuberay.errors import ManifestError
from kuberay.quantity import format_quantity, parse_quantity


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("500m", Decimal("0.5")),
        (2, Decimal(2)),
        ("1.5", Decimal("1.5")),
        ("16Gi", Decimal(16 * 2**30)),
        ("1k", Decimal(1000)),
        ("100u", Decimal("0.0001")),
        ("2E", Decimal(2 * 10**18)),
        ("2e3", Decimal(2000)),
    ],
)
def test_reads_every_form(text: str | int, amount: Decimal) -> None:
    assert parse_quantity(text) == amount


@pytest.mark.parametrize("text", ["", "Gi", "1GB", "1 Gi", "one", "1ii"])
def test_refuses_what_is_none(text: str) -> None:
    with pytest.raises(ManifestError, match="not a Kubernetes quantity"):
        parse_quantity(text)


def test_writes_memory_in_gib() -> None:
    assert format_quantity("memory", Decimal(2**31)) == "2 GiB"
    assert format_quantity("cpu", Decimal("0.5")) == "0.5"
