"""Reciprocal rank fusion (Cormack, Clarke, Büttcher, SIGIR 2009, doi:10.1145/1571941.1572114)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

Key = TypeVar("Key")

RANK_CONSTANT = 5
"""The paper's k: how fast a rank's weight falls. The paper's 60 is for fusing long lists of many
systems; with two, 5 lets a first place count (docs/retrieval.md, "Fusion")."""


def fuse(
    rankings: Sequence[Sequence[Key]], constant: int = RANK_CONSTANT
) -> list[tuple[Key, float]]:
    """Return every key with its sum of 1 / (constant + rank), best first.

    A key counts once per ranking, at its best rank. Ties keep the order of first appearance, so
    the result is the same every time.

    Args:
        rankings: keys of each search, best first.
        constant: the paper's k.
    """
    scores: dict[Key, float] = {}
    for ranking in rankings:
        for rank, key in enumerate(dict.fromkeys(ranking), start=1):
            scores[key] = scores.get(key, 0.0) + 1 / (constant + rank)
    return sorted(scores.items(), key=lambda item: -item[1])
