from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_backend.api.stops import StopStrings

TEXT = st.text("ab\n", max_size=30)
STOPS = st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=4)


@given(st.lists(TEXT), STOPS)
def test_cuts_where_the_whole_text_would_be_cut(pieces: list[str], stops: list[str]) -> None:
    """Whatever the pieces, the text given out is what precedes the stop that completes first."""
    stop, out = StopStrings(stops), ""
    for piece in pieces:
        out += stop.push(piece)
        if stop.found:
            break
    else:
        out += stop.flush()
    whole = "".join(pieces)
    ends = [(whole.find(s) + len(s), whole.find(s)) for s in stops if s in whole]
    assert stop.found == bool(ends)
    assert out == (whole[: min(ends)[1]] if ends else whole)


@given(st.lists(TEXT), st.lists(TEXT), STOPS)
def test_a_stop_string_that_ends_where_none_may_is_text(
    early: list[str], late: list[str], stops: list[str]
) -> None:
    stop, out = StopStrings(stops), ""
    for piece in early:
        out += stop.push(piece, may_stop=False)
        assert not stop.found
    for piece in late:
        out += stop.push(piece)
        if stop.found:
            break
    else:
        out += stop.flush()
    whole, free = "".join(early + late), len("".join(early))
    ends = [
        (end, end - len(s))
        for s in stops
        for end in range(max(free + 1, len(s)), len(whole) + 1)
        if whole[:end].endswith(s)
    ]
    assert stop.found == bool(ends)
    assert out == (whole[: min(ends)[1]] if ends else whole)


@given(TEXT, STOPS)
def test_holds_back_no_more_than_a_stop_s_beginning(text: str, stops: list[str]) -> None:
    stop = StopStrings(stops)
    out = stop.push(text)
    if not stop.found:
        held = text[len(out) :]
        assert not held or any(s.startswith(held) for s in stops)


def test_without_stops_text_passes() -> None:
    assert StopStrings([]).push("x") == "x"


@pytest.mark.parametrize("pieces", [["a", "bc", "d"], ["ab", "cd"], ["abcd"]])
def test_a_false_start_is_released(pieces: list[str]) -> None:
    stop = StopStrings(["abx"])
    assert "".join(map(stop.push, pieces)) + stop.flush() == "abcd"
