"""Answers measured: are they right, are they grounded, are the right sources cited."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rag_graph import prompts
from rag_graph.citations import cite
from rag_graph.evals import metrics
from rag_graph.evals.datasets import Dataset, EvalQuestion
from rag_graph.evals.retrieval import OnStep
from rag_graph.graph import RagGraph
from rag_graph.nodes import NOT_FOUND
from rag_graph.state import Answered, Passage, Question, Retrieved

MEASURES = {
    "exact_match": "the answer is a gold answer, SQuAD's normalisation",
    "f1": "SQuAD's token F1 with the nearest gold answer",
    "contains_gold": "the answer says a gold answer",
    "citation_precision": "share of an answer's citations that are of the right document",
    "citation_recall": "the right document is among the citations",
    "groundedness": "share of an answer's sentences that a sent passage bears out",
    "answered": "an answerable question was answered, not abstained from",
    "abstention": "an unanswerable question was abstained from",
}


@dataclass(slots=True)
class AnswersResult:
    """Values of each measure by question; a question adds to the measures that apply to it."""

    scores: dict[str, dict[int, float]] = field(default_factory=lambda: {m: {} for m in MEASURES})

    def add(
        self, number: int, question: EvalQuestion, answer: Answered, passages: Sequence[Passage]
    ) -> None:
        """Score the answer to the question of that number."""
        for measure, value in _values(question, answer, passages).items():
            self.scores[measure][number] = value


def _values(
    question: EvalQuestion, answer: Answered, passages: Sequence[Passage]
) -> dict[str, float]:
    abstained = answer.text.strip() == NOT_FOUND
    if question.document is None:
        return {"abstention": float(abstained)}
    if abstained:
        return {"answered": 0.0}
    cited = [citation.source for citation in answer.citations]
    values = {
        "answered": 1.0,
        "citation_recall": float(question.document in cited),
        "groundedness": groundedness(answer.text, passages),
    }
    if cited:
        values["citation_precision"] = cited.count(question.document) / len(cited)
    if question.answers:
        text = prompts.without_markers(answer.text)
        values["exact_match"] = metrics.exact(text, question.answers)
        values["f1"] = metrics.f1(text, question.answers)
        values["contains_gold"] = metrics.contains(text, question.answers)
    return values


async def run(data: Dataset, graph: RagGraph, on_step: OnStep) -> AnswersResult:
    """Ask every question of `data`.

    Raises:
        RagError: an answer failed.
    """
    result = AnswersResult()
    for i, question in enumerate(data.questions):
        on_step("answering", i, len(data.questions))
        passages: tuple[Passage, ...] = ()
        async for event in graph.answer(Question(question.text)):
            if isinstance(event, Retrieved):
                passages = event.passages
            elif isinstance(event, Answered):
                result.add(i, question, event, passages)
    return result


def groundedness(answer: str, passages: Sequence[Passage]) -> float:
    """Return the share of the answer's sentences that a passage's sentence holds most words of."""
    statements = prompts.sentences(prompts.without_markers(answer))
    if not statements:
        return 0.0
    return sum(bool(cite(statement, passages)) for statement in statements) / len(statements)
