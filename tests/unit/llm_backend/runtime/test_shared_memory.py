from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from llm_backend.runtime import shared_memory
from llm_backend.runtime.ranks import Rank

_RANK = """
import os, sys
import torch.distributed as dist
from llm_backend.runtime import shared_memory
from llm_backend.runtime.ranks import Rank
index = int(sys.argv[1])
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=index, world_size=2)
if sys.argv[3] == "unreachable" and index == 1:
    def refuse(*_): raise PermissionError("not yours")
    os.open = refuse
memory = shared_memory.allocate(Rank(index, 2, index, 2), 1000)
if memory is None:
    print("none")
else:
    memory[index] = 5 + index
    dist.barrier()
    print(memory[:3].tolist())
"""


@pytest.mark.parametrize(
    "rank", [Rank(0, 1, 0, 1), Rank(index=0, size=3, local_index=0, local_size=2)]
)
def test_ranks_that_cannot_share_get_none(rank: Rank) -> None:
    assert shared_memory.allocate(rank, 1000) is None


@pytest.mark.parametrize(("how", "printed"), [("reachable", "[5, 6, 0]"), ("unreachable", "none")])
def test_two_ranks_have_the_same_memory_or_neither_has(
    tmp_path: Path, how: str, printed: str
) -> None:
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", _RANK, str(index), str(tmp_path / "meeting"), how],
            stdout=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]

    assert [rank.communicate(timeout=60)[0].strip() for rank in ranks] == [printed] * 2
