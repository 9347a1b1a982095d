from __future__ import annotations

from llm_backend.api.choice import Choice
from llm_backend.api.stops import StopStrings
from llm_backend.models.detokenizer import Detokenizer
from llm_backend.runtime.ipc import Output, TokenLogprob


def letters(ids: list[int] | tuple[int, ...] | object) -> str:
    return "".join(map(chr, ids))  # type: ignore[call-overload]


def choice(*stops: str, min_tokens: int = 0) -> Choice:
    return Choice(0, Detokenizer(letters), StopStrings(stops), min_tokens=min_tokens)


def ids(text: str) -> list[int]:
    return [ord(letter) for letter in text]


def test_counts_only_up_to_the_stop_string() -> None:
    answer = choice("c")
    piece = answer.take(Output("r", ids("abcde")))
    assert (piece.text, piece.finish_reason) == ("ab", "stop")
    assert answer.completion_tokens == 3


def test_the_ending_token_is_counted_but_not_text() -> None:
    answer = choice()
    answer.take(Output("r", ids("ab")))
    piece = answer.take(Output("r", ids("$"), "stop", stop_token=True))
    assert (answer.text, piece.finish_reason, answer.completion_tokens) == ("ab", "stop", 3)


def test_held_text_comes_at_the_end() -> None:
    answer = choice("bc")
    assert answer.take(Output("r", ids("ab"))).text == "a"
    piece = answer.take(Output("r", ids("x"), "length"))
    assert (piece.text, piece.finish_reason) == ("bx", "length")


def test_a_false_start_at_the_very_end_is_text() -> None:
    answer = choice("bc")
    assert answer.take(Output("r", ids("ab"), "length")).text == "ab"
    assert answer.finish_reason == "length"


def test_logprobs_of_counted_tokens_only() -> None:
    answer = choice("b")
    found = [TokenLogprob(-1.0), TokenLogprob(-2.0), TokenLogprob(-3.0)]
    piece = answer.take(Output("r", ids("abc"), None, 4, found))
    assert piece.tokens == [(ord("a"), found[0]), (ord("b"), found[1])]
    assert answer.cached_tokens == 4


def test_no_stop_string_ends_an_answer_before_its_minimum() -> None:
    answer = choice("b", "cd", min_tokens=3)
    assert answer.take(Output("r", ids("ab"))).text == "ab"
    assert answer.take(Output("r", ids("c"))).text == ""  # it may begin one that counts
    piece = answer.take(Output("r", ids("de")))
    assert (answer.text, piece.finish_reason, answer.completion_tokens) == ("ab", "stop", 4)


def test_the_end_of_an_answer_below_its_minimum_brings_what_was_held() -> None:
    answer = choice("b", min_tokens=3)
    assert answer.take(Output("r", ids("ab"), "length")).text == "ab"
    assert answer.finish_reason == "length"
