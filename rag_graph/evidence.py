"""Whether the passages found can answer the question. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from rag_graph.state import Passage
from rag_graph.words import words

COVERAGE_WEIGHT = 0.5


def evidence(question: str, passages: Sequence[Passage]) -> float | None:
    """Return how much speaks for an answer in `passages`: cosine of the nearest + half the share
    of the question's words in the passage that holds most of them. 0 to 1.5.

    None when the search told no similarities. On XQuAD, 99 % of questions reach 0.52 over
    their own article, and 73 % fall short of it over the other articles (docs/retrieval.md).
    """
    if not passages:
        return 0.0
    similarities = [p.similarity for p in passages if p.similarity is not None]
    if not similarities:
        return None
    wanted = words(question)
    covered = max(len(wanted & words(p.text)) for p in passages) / len(wanted) if wanted else 0.0
    return max(similarities) + COVERAGE_WEIGHT * covered


def is_enough(found: float | None, threshold: float) -> bool:
    """Whether to answer. Evidence that is not known is taken for enough."""
    return found is None or found >= threshold
