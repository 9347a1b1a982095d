from __future__ import annotations

import pytest

from llm_backend.engine.kv_cache import BlockPool


def test_blocks_are_counted_up_to_a_whole_one() -> None:
    pool = BlockPool(4, block_size=16)

    assert [pool.blocks_for(n) for n in (0, 1, 16, 17)] == [0, 1, 1, 2]


def test_too_many_blocks_are_refused_and_nothing_is_taken() -> None:
    pool = BlockPool(4, block_size=16)

    with pytest.raises(ValueError, match="5 KV cache blocks wanted, 4 are free"):
        pool.allocate(5)
    assert pool.num_free == 4


def test_a_released_block_is_found_by_its_hash_until_it_is_used_again() -> None:
    pool = BlockPool(2, block_size=16)
    [block] = pool.allocate(1)
    pool.register(block, b"a")
    pool.release([block])

    assert pool.match([b"a", b"b"]) == [block]
    pool.allocate(2)
    assert pool.match([b"a"]) == []


def test_blocks_without_a_hash_are_used_before_cached_ones() -> None:
    pool = BlockPool(3, block_size=16)
    cached, plain, _ = pool.allocate(3)
    pool.register(cached, b"a")
    pool.release([cached])
    pool.release([plain])

    assert pool.allocate(1) == [plain]
    assert pool.match([b"a"]) == [cached]


def test_the_least_recently_used_prefix_goes_first_and_its_tail_before_its_head() -> None:
    pool = BlockPool(4, block_size=16)
    old, new = pool.allocate(2), pool.allocate(2)
    for i, block in enumerate(old + new):
        pool.register(block, bytes([i]))
    pool.release(old)
    pool.release(new)

    assert pool.allocate(4) == [old[1], old[0], new[1], new[0]]


def test_a_shared_block_is_free_only_when_its_last_holder_releases_it() -> None:
    pool = BlockPool(1, block_size=16)
    [block] = pool.allocate(1)
    pool.register(block, b"a")
    pool.hold([block])
    pool.release([block])

    assert pool.num_free == 0
    pool.release([block])
    assert pool.num_free == 1


def test_of_two_blocks_with_one_content_the_first_stays_known() -> None:
    pool = BlockPool(2, block_size=16)
    first, second = pool.allocate(2)
    pool.register(first, b"a")
    pool.register(second, b"a")

    assert pool.match([b"a"]) == [first]


def test_without_a_prefix_cache_nothing_is_found() -> None:
    pool = BlockPool(1, block_size=16, prefix_cache=False)

    assert pool.prefix_cache is False
    assert pool.match([b"a"]) == []
