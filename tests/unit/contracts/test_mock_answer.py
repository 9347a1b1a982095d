"""The mock's answers: deterministic, quoted from the passages, cut where asked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.mock_answer import ContextLengthError, answer, compose, tokenize

PASSAGES = (
    '<passage id="1" title="a">Ducks swim. Taints keep pods away.</passage>\n'
    '<passage id="2" title="b">GPU node pools carry the taint sku=gpu.</passage>'
)


@given(st.text())
def test_tokens_concatenate_to_the_text(text: str) -> None:
    assert "".join(tokenize(text)) == text


def test_the_sentence_nearest_the_question_is_quoted_and_cited() -> None:
    question = f"{PASSAGES}\n\nWhich taint do GPU node pools carry?"
    assert compose([question]) == "GPU node pools carry the taint sku=gpu. [2]"
    assert compose(["system", PASSAGES, "Do ducks swim?"]) == "Ducks swim. [1]"


def test_a_point_inside_a_word_does_not_end_a_sentence() -> None:
    passage = '<passage id="1" title="a">The label is `isthmus.dev/pool: gpu`. Ducks.</passage>'
    assert compose([passage, "Which label?"]) == "The label is `isthmus.dev/pool: gpu`. [1]"


def test_without_passages_nothing_is_invented() -> None:
    assert compose(["Who?"]).endswith("Who?")


def test_limits_and_stops() -> None:
    whole = answer(["one two three"], max_model_len=100)
    assert whole.finish_reason == "stop"
    assert whole.prompt_tokens == 3
    cut = answer(["one two three"], max_model_len=100, token_limit=2)
    assert (cut.tokens, cut.finish_reason) == (whole.tokens[:2], "length")
    stopped = answer(["one two three"], max_model_len=100, stop=["two"])
    assert stopped.text == whole.text[: whole.text.index("two")]
    assert answer(["x"], max_model_len=100, answer_tokens=64).usage.completion_tokens == 64
    repeated = answer(["x"], max_model_len=100, repeat=True, token_limit=64)
    assert (repeated.usage.completion_tokens, repeated.finish_reason) == (64, "length")
    assert repeated.text.count(whole.text.split()[0]) > 2


def test_a_prompt_that_does_not_fit_is_refused_with_both_numbers() -> None:
    with pytest.raises(ContextLengthError, match=r"5 tokens.*length is 4"):
        answer(["a b c d e"], max_model_len=4)
    with pytest.raises(ContextLengthError, match=r"3 tokens and 2 more.*length is 4"):
        answer(["a b c"], max_model_len=4, token_limit=2)
