"""Kubernetes resource quantities as exact numbers.

Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
"""

from __future__ import annotations

import re
from decimal import Decimal

from kuberay.errors import ManifestError

_QUANTITY = re.compile(r"([+-]?\d+(?:\.\d*)?|\.\d+)(?:[eE]([+-]?\d+)|([a-zA-Z]{0,2}))")
_SUFFIX: dict[str, Decimal] = {
    "": Decimal(1),
    **{s: Decimal(1000) ** i for i, s in enumerate("num", start=-3)},
    **{s: Decimal(1000) ** i for i, s in enumerate("kMGTPE", start=1)},
    **{f"{s}i": Decimal(1024) ** i for i, s in enumerate("KMGTPE", start=1)},
}


def parse_quantity(text: str | int | float) -> Decimal:
    """Return a quantity such as `500m`, `16Gi` or `2` in its base unit (cores, bytes, pieces).

    Raises:
        ManifestError: the text is not a quantity.
    """
    match = _QUANTITY.fullmatch(str(text))
    if match is None or (match[3] or "") not in _SUFFIX:
        raise ManifestError(
            f"{text!r} is not a Kubernetes quantity; write for example 500m, 2 or 16Gi."
        )
    number = Decimal(match[1])
    if match[2]:
        return number.scaleb(int(match[2]))
    return number * _SUFFIX[match[3] or ""]


def format_quantity(resource: str, amount: Decimal) -> str:
    """Return an amount as people write it: memory in GiB, everything else plainly."""
    if resource in ("memory", "ephemeral-storage"):
        return f"{float(amount / 2**30):.4g} GiB"
    return f"{float(amount):.6g}"
