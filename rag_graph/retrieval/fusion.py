"""Reciprocal rank fusion (Cormack, Clarke, Büttcher, SIGIR 2009, doi:10.1145/1571941.1572114)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

Key = TypeVar("Key")


def fuse(
    rankings: Sequence[Sequence[Key]], constant: int, evidence: Mapping[Key, float]
) -> list[tuple[Key, float]]:
    """Return every key with its sum of 1 / (constant + rank), best first.

    A key counts once per ranking, at its best rank. Equal sums are common with two rankings (first
    and second here, second and first there); the greater evidence then comes first.

    Args:
        rankings: keys of each search, best first.
        constant: the paper's k. Its 60 is for many long lists; the smaller, the more a first place
            counts.
        evidence: decides between equal sums; 0 for a key that it lacks.
    """
    scores: dict[Key, float] = {}
    for ranking in rankings:
        for rank, key in enumerate(dict.fromkeys(ranking), start=1):
            scores[key] = scores.get(key, 0.0) + 1 / (constant + rank)
    return sorted(scores.items(), key=lambda item: (-item[1], -evidence.get(item[0], 0.0)))
