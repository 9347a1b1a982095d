"""Markers are validated; answers without markers are matched to what they rest on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_graph.citations import MarkerFilter, cite
from rag_graph.prompts import MARKER
from tests.support.rag import passage

TAINT = passage("Pools differ. The GPU pools carry the taint sku=gpu:NoSchedule.", 1, page=3)
OTHER = passage("Ray Serve scales replicas by ongoing requests.", 2)


def filtered(pieces: list[str], passages: int | None = 2) -> tuple[str, int]:
    markers = MarkerFilter(passages)
    text = "".join(markers.feed(piece) for piece in pieces) + markers.flush()
    return text, markers.removed


@pytest.mark.parametrize(
    ("text", "expected", "removed"),
    [
        ("Good [1] and [2].", "Good [1] and [2].", 0),
        ("Bad [3] and [0].", "Bad  and .", 2),
        ("Both [1, 7].", "Both [1].", 1),
        ("Code a[i] and x[1", "Code a[i] and x[1", 0),
        ("[" * 40, "[" * 40, 0),
        ("`rows[0]` [9] ``a[`0]`` [2]", "`rows[0]`  ``a[`0]`` [2]", 1),
        ("A lone ` in a[0]\nends [9].", "A lone ` in a[0]\nends .", 1),
        ("```py\nprint(argv[3])\n```\nSo [3].", "```py\nprint(argv[3])\n```\nSo .", 1),
        ("````\n```\na[3]\n````[3]", "````\n```\na[3]\n````", 1),
    ],
)
def test_markers_that_point_nowhere_are_removed_and_counted(
    text: str, expected: str, removed: int
) -> None:
    assert filtered([text]) == (expected, removed)
    assert filtered(list(text)) == (expected, removed)


def test_where_nothing_was_searched_all_stays() -> None:
    code = "print(sys.argv[1], rows[0])"
    assert filtered([code], None) == filtered(list(code), None) == (code, 0)
    assert cite(code, []) == ()


@given(st.text(alphabet="ab [1234],`\n", max_size=40), st.lists(st.integers(1, 5), max_size=12))
def test_how_the_stream_is_cut_makes_no_difference(text: str, cuts: list[int]) -> None:
    pieces, rest = [], text
    for cut in cuts:
        pieces.append(rest[:cut])
        rest = rest[cut:]
    result, _ = filtered([*pieces, rest])
    assert result == filtered([text])[0]
    if "`" not in result:
        numbers = [int(n) for marker in MARKER.finditer(result) for n in marker[1].split(",")]
        assert set(numbers) <= {1, 2}
    cite(result, [TAINT, OTHER])


def test_ordinary_text_is_passed_on_at_once() -> None:
    markers = MarkerFilter(1)
    assert markers.feed("Hello ") == "Hello "
    assert markers.feed("world [") == "world "
    assert markers.feed("1] done") == "[1] done"


def test_a_marker_cites_the_sentence_that_bears_it_out() -> None:
    (citation,) = cite("GPU pools carry sku=gpu:NoSchedule [1].", [TAINT, OTHER])
    assert citation.number == 1
    assert citation.origin == "model"
    assert citation.quote == "The GPU pools carry the taint sku=gpu:NoSchedule."
    assert citation.page == 3
    assert citation.score == 1.0


def test_nothing_in_code_is_a_marker() -> None:
    answer = "Take `taints[2]` of the GPU pools [1].\n```\nreplicas[2]\n```"
    (citation,) = cite(answer, [TAINT, OTHER])
    assert (citation.number, citation.origin) == (1, "model")


def test_two_markers_side_by_side_mark_the_same_statement() -> None:
    cited = cite("Ray Serve scales replicas [1][2].", [TAINT, OTHER])
    assert [c.number for c in cited] == [1, 2]
    assert cited[1].score == 1.0


def test_an_answer_without_markers_is_matched_and_says_so() -> None:
    (citation,) = cite("The taint of the GPU pools is sku=gpu:NoSchedule.", [OTHER, TAINT])
    assert citation.number == 2
    assert citation.origin == "matched"


def test_an_answer_that_no_passage_bears_out_cites_nothing() -> None:
    assert cite("Bananas grow in warm places near the sea.", [TAINT, OTHER]) == ()
    assert cite("Yes.", [TAINT, OTHER]) == ()
    assert cite("", []) == ()
