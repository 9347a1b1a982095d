from __future__ import annotations

import pytest
import torch

from llm_backend.runtime import huge_pages
from llm_backend.runtime.huge_pages import Arena


def test_memory_is_private_and_reads_as_zero() -> None:
    memory = huge_pages.allocate(3 * 2**20)

    assert len(memory) == 3 * 2**20
    assert not memory.any()


def test_more_than_there_is_is_refused() -> None:
    with pytest.raises(OSError, match="Cannot allocate memory"):
        huge_pages.allocate(2**60)


def test_what_was_taken_lies_apart_and_outlives_the_arena() -> None:
    arena = Arena(huge_pages.allocate(100))

    first, second = arena.take((2, 5), torch.float32), arena.take((30,), torch.bfloat16)
    del arena
    first.fill_(1.5)
    second.fill_(2.0)

    assert first.tolist() == [[1.5] * 5] * 2
    assert second.tolist() == [2.0] * 30


def test_an_arena_gives_no_more_than_it_has() -> None:
    with pytest.raises(RuntimeError, match="invalid for input of size"):
        Arena(huge_pages.allocate(100)).take((26,), torch.float32)
