"""Capacity of the Azure VM sizes that the modules and examples use, and what AKS leaves of it.

Sizes: https://learn.microsoft.com/azure/virtual-machines/sizes/. Reservations:
https://learn.microsoft.com/azure/aks/node-resource-reservations (Kubernetes 1.29 and later).
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from kuberay.errors import UnknownVmSizeError
from kuberay.placement import GPU

# vCPUs, memory in GiB, GPUs
_SIZES: Mapping[str, tuple[int, int, int]] = {
    "Standard_D2s_v5": (2, 8, 0),
    "Standard_D4s_v5": (4, 16, 0),
    "Standard_D8s_v5": (8, 32, 0),
    "Standard_D16s_v5": (16, 64, 0),
    "Standard_D32s_v5": (32, 128, 0),
    "Standard_D4ds_v5": (4, 16, 0),
    "Standard_D8ds_v5": (8, 32, 0),
    "Standard_D16ds_v5": (16, 64, 0),
    "Standard_NC4as_T4_v3": (4, 28, 1),
    "Standard_NC64as_T4_v3": (64, 440, 4),
    "Standard_NC24ads_A100_v4": (24, 220, 1),
    "Standard_NC48ads_A100_v4": (48, 440, 2),
    "Standard_NC96ads_A100_v4": (96, 880, 4),
    "Standard_NC40ads_H100_v5": (40, 320, 1),
    "Standard_NC80adis_H100_v5": (80, 640, 2),
    "Standard_ND96asr_v4": (96, 900, 8),
    "Standard_ND96amsr_A100_v4": (96, 1900, 8),
    "Standard_ND96isr_H100_v5": (96, 1900, 8),
}
_GIB = Decimal(2**30)
_MIB = Decimal(2**20)


def allocatable(vm_size: str, max_pods: int = 110) -> dict[str, Decimal]:
    """Return cores, bytes and GPUs that pods can use on a node of `vm_size`.

    Raises:
        UnknownVmSizeError: the size is not in the table.
    """
    try:
        cpus, memory_gib, gpus = _SIZES[vm_size]
    except KeyError:
        raise UnknownVmSizeError(
            f"VM size {vm_size!r} has no known capacity. Known are {', '.join(sorted(_SIZES))}; "
            "give the pools as `nodePools` in a values file, with their capacity, instead."
        ) from None
    memory = memory_gib * _GIB
    reserved = min((20 * max_pods + 50) * _MIB, memory / 4) + 100 * _MIB  # the last: eviction
    found = {
        "cpu": cpus - reserved_cpu(cpus),
        "memory": memory - reserved,
        "pods": Decimal(max_pods),
    }
    return found | ({GPU: Decimal(gpus)} if gpus else {})


def reserved_cpu(cpus: int) -> Decimal:
    """Return the cores that AKS reserves: 60 m, 40 m, 2 × 20 m, then 10 m for each core."""
    steps = (60, 40, 20, 20)
    millis = sum(steps[:cpus]) + 10 * max(0, cpus - len(steps))
    return Decimal(millis) / 1000
