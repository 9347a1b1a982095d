"""Memory in pages of 2 MiB, where Linux gives them.

A step reads all weights and much of the cache. In pages of 4 KiB the address of each is looked up
first, which takes longer than reading it, the more so in a virtual machine.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterable

import torch
from torch import Tensor


def allocate(num_bytes: int) -> Tensor:
    """Return [num_bytes] uint8 that read as zero and take up memory once they are written.

    Raises:
        OSError: there is not so much memory.
    """
    memory = mmap.mmap(-1, num_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.uint8)


class Arena:
    """A piece of memory that is handed out bit by bit; it lives as long as what was taken.

    Args:
        memory: [bytes] uint8.
    """

    def __init__(self, memory: Tensor) -> None:
        self._left = memory

    def take(self, shape: Iterable[int], dtype: torch.dtype) -> Tensor:
        """Return the next bytes as a contiguous tensor, with the values that they hold."""
        shape = tuple(shape)
        num_bytes = math.prod(shape) * dtype.itemsize
        taken, self._left = self._left[:num_bytes], self._left[num_bytes:]
        return taken.view(dtype).view(shape)
