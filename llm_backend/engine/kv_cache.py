"""Which KV cache block belongs to whom: reference counts and the prefix cache.

A block is *held* (its reference count says by how many sequences) or *free*. A free block may
still carry a hash: its keys and values are intact, and a new sequence with the same prefix takes
it back. Free blocks without a hash are used first, then the least recently used.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence


class BlockPool:
    """The accounting of `num_blocks` blocks. Holds no tensor.

    Args:
        num_blocks: blocks of the cache.
        block_size: tokens of one block.
        prefix_cache: whether blocks are found again by their hash.
    """

    def __init__(self, num_blocks: int, block_size: int, prefix_cache: bool = True) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.prefix_cache = prefix_cache
        self._references = [0] * num_blocks
        self._hash_of: dict[int, bytes] = {}
        self._block_of: dict[bytes, int] = {}
        self._free = OrderedDict.fromkeys(range(num_blocks))  # the next one to use comes first

    @property
    def num_free(self) -> int:
        """Blocks that no sequence holds, cached ones included."""
        return len(self._free)

    def blocks_for(self, num_tokens: int) -> int:
        """Return how many blocks hold `num_tokens`."""
        return -(-num_tokens // self.block_size)

    def match(self, hashes: Iterable[bytes]) -> list[int]:
        """Return the blocks of the longest cached prefix. They are not held yet: see `hold`."""
        found: list[int] = []
        for digest in hashes:
            block = self._block_of.get(digest)
            if block is None:
                break
            found.append(block)
        return found

    def num_free_without(self, blocks: Iterable[int]) -> int:
        """Return how many blocks stay free once `blocks` are held."""
        return len(self._free) - sum(block in self._free for block in blocks)

    def hold(self, blocks: Iterable[int]) -> None:
        """Take one reference of each block that `match` found."""
        for block in blocks:
            self._references[block] += 1
            self._free.pop(block, None)

    def allocate(self, count: int) -> list[int]:
        """Return `count` free blocks, now held once; what was cached in them is forgotten.

        Raises:
            ValueError: fewer are free. Nothing was taken.
        """
        if count > len(self._free):
            raise ValueError(f"{count} KV cache blocks wanted, {len(self._free)} are free.")
        taken = [self._free.popitem(last=False)[0] for _ in range(count)]
        for block in taken:
            self._references[block] = 1
            self._forget(block)
        return taken

    def register(self, block: int, digest: bytes) -> None:
        """Let later sequences find a held block whose keys and values are complete.

        Two sequences may compute the same prefix at the same time; the first one's block stays.
        """
        if digest not in self._block_of and block not in self._hash_of:
            self._block_of[digest] = block
            self._hash_of[block] = digest

    def release(self, blocks: Sequence[int]) -> None:
        """Give back one reference of each block of a sequence, in the sequence's order.

        The last block becomes the least recently used: a prefix is useful without its tail, and
        a tail is useless without its prefix.
        """
        for block in reversed(blocks):
            self._references[block] -= 1
            if self._references[block] == 0:
                self._free[block] = None
                self._free.move_to_end(block, last=block in self._hash_of)

    def _forget(self, block: int) -> None:
        digest = self._hash_of.pop(block, None)
        if digest is not None:
            del self._block_of[digest]
