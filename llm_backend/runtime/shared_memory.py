"""Memory that the ranks of one host share."""

from __future__ import annotations

import mmap
import os
import sys

import torch
import torch.distributed as dist
from torch import Tensor

from llm_backend.runtime.ranks import Rank


def allocate(rank: Rank, num_bytes: int) -> Tensor | None:
    """Return [num_bytes] uint8 of zeros, the same memory on all ranks; called by all of them.

    It has no name: the others reach it through rank 0's file descriptor in /proc. So nothing is
    left of it when the ranks are gone, however they end, and /dev/shm need not hold it.

    Returns:
        None where the ranks are alone, on several hosts, or cannot reach it.
    """
    if rank.size == 1 or rank.local_size < rank.size or not hasattr(os, "memfd_create"):
        return None
    descriptor = os.memfd_create("isthmus-ranks")
    os.ftruncate(descriptor, num_bytes)
    place = torch.tensor([os.getpid(), descriptor])
    dist.broadcast(place, src=0)
    leader, its_descriptor = place.tolist()
    memory = _map(leader, its_descriptor, num_bytes)
    reached = torch.tensor([int(memory is not None)])
    dist.all_reduce(reached)
    os.close(descriptor)
    return memory if int(reached) == rank.size else None


def _map(process: int, descriptor: int, num_bytes: int) -> Tensor | None:
    try:
        opened = os.open(f"/proc/{process}/fd/{descriptor}", os.O_RDWR)
    except OSError as error:
        print(f"Sums of the ranks through DeepSpeed, not shared memory: {error}", file=sys.stderr)  # noqa: T201
        return None
    try:
        return torch.frombuffer(mmap.mmap(opened, num_bytes), dtype=torch.uint8)
    finally:
        os.close(opened)
