"""Measures of rankings and answers, and how sure they are. Pure functions."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its 95 % confidence interval."""

    mean: float
    low: float
    high: float


def rank_of(wanted: str, ranking: Sequence[str]) -> int | None:
    """Return the place of `wanted`, counted from 1, or None."""
    return ranking.index(wanted) + 1 if wanted in ranking else None


def ndcg(rank: int | None, depth: int = 10) -> float:
    """Return nDCG@depth of a ranking with one relevant document at `rank`."""
    return 1.0 / float(np.log2(rank + 1)) if rank is not None and rank <= depth else 0.0


def recall(rank: int | None, depth: int) -> float:
    """Return recall@depth with one relevant document."""
    return float(rank is not None and rank <= depth)


def reciprocal(rank: int | None) -> float:
    """Return the reciprocal rank."""
    return 1.0 / rank if rank is not None else 0.0


def normalise(text: str) -> str:
    """Return `text` as SQuAD compares it: lower case, no punctuation, no articles, one space."""
    plain = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", plain).split())


def exact(answer: str, gold: Sequence[str]) -> float:
    """Return SQuAD's exact match with the nearest of `gold`."""
    return float(any(normalise(answer) == normalise(g) for g in gold))


def contains(answer: str, gold: Sequence[str]) -> float:
    """Whether the answer says one of `gold`: fairer than `exact` to whole sentences."""
    said = f" {normalise(answer)} "
    return float(any(f" {normalise(g)} " in said for g in gold if normalise(g)))


def f1(answer: str, gold: Sequence[str]) -> float:
    """Return SQuAD's token F1 with the nearest of `gold`."""
    return max((_f1(normalise(answer).split(), normalise(g).split()) for g in gold), default=0.0)


def _f1(answer: list[str], gold: list[str]) -> float:
    shared = sum((Counter(answer) & Counter(gold)).values())
    return 2 * shared / (len(answer) + len(gold)) if shared else 0.0


def estimate(values: Sequence[float]) -> Estimate:
    """Return the mean with its percentile bootstrap interval; the same on every call."""
    sample = np.asarray(values, np.float64)
    if sample.size == 0:
        return Estimate(float("nan"), float("nan"), float("nan"))
    low, high = np.quantile(_resampled_means(sample), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(sample.mean()), float(low), float(high))


def difference(a: Sequence[float], b: Sequence[float]) -> Estimate:
    """Return the mean of b - a over the same questions, paired."""
    return estimate(list(np.asarray(b, np.float64) - np.asarray(a, np.float64)))


def _resampled_means(sample: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    dice = np.random.default_rng(0)
    means = [sample[dice.integers(0, sample.size, sample.size)].mean() for _ in range(RESAMPLES)]
    return np.array(means)
