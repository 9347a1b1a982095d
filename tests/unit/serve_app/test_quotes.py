"""The quotes of passages that come in place of an answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from contracts.openai import ChatCompletionRequest
from rag_graph.errors import LLMUnavailableError
from rag_graph.llm.transcript import Output
from rag_graph.state import Answered, Event, Passage, Question, Retrieved
from serve_app.auth import Keys
from serve_app.degrade import QUOTE_CHARS, Degrading
from serve_app.settings import ServeSettings
from tests.unit.serve_app.conftest import PASSAGE, Fakes

LONG = replace(PASSAGE, text="word " * QUOTE_CHARS)


async def answered(passage: Passage) -> Answered:
    """Return the answer from `passage` alone."""
    services = Fakes().services(Keys(()))
    settings = ServeSettings(on_llm_failure="passages")
    degrading = Degrading(settings, services.llm, services.metrics)

    async def broken() -> AsyncGenerator[Event, None]:
        yield Retrieved((passage,))
        raise LLMUnavailableError("The LLM is down.")

    def none(_: ChatCompletionRequest) -> AsyncGenerator[Output, None]:
        raise AssertionError("no model is asked")

    events = [event async for event in degrading.answer(Question("?"), broken(), none)]
    assert isinstance(events[-1], Answered)
    return events[-1]


@pytest.mark.parametrize("passage", [PASSAGE, LONG], ids=["short", "long"])
async def test_a_quote_is_in_its_passage_word_for_word(passage: Passage) -> None:
    (citation,) = (await answered(passage)).citations
    assert citation.quote
    assert len(citation.quote) <= QUOTE_CHARS
    assert citation.quote in passage.text


async def test_the_answer_shows_where_a_passage_was_cut_off() -> None:
    assert (await answered(LONG)).text.endswith("word … [1]")
    assert (await answered(PASSAGE)).text.endswith(f"{PASSAGE.text} [1]")
