"""Headers are read strictly: what a caller sends ends up in logs."""

from __future__ import annotations

import pytest

from contracts import headers


def test_a_sane_request_id_is_kept() -> None:
    assert headers.request_id({headers.REQUEST_ID: "abc-123"}) == "abc-123"


@pytest.mark.parametrize("given", ["", "a\nb", "é", "x" * 129])
def test_a_request_id_that_could_spoil_a_log_is_replaced(given: str) -> None:
    made = headers.request_id({headers.REQUEST_ID: given})
    assert made.startswith("req-")
    assert made != headers.request_id({})


def test_a_deadline_is_read_in_milliseconds() -> None:
    assert headers.deadline_seconds({headers.DEADLINE_MS: "1500"}) == 1.5
    assert headers.deadline_seconds({}) is None


@pytest.mark.parametrize("given", ["0", "-5", "1.5", "soon", "²", "", "1" * 11])
def test_a_bad_deadline_is_refused_by_name(given: str) -> None:
    with pytest.raises(ValueError, match=headers.DEADLINE_MS):
        headers.deadline_seconds({headers.DEADLINE_MS: given})


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (TRACE, True),
        (TRACE.replace("00-", "cc-", 1) + "-later", True),
        ("00-a-b-01", False),
        (TRACE.upper(), False),
        (TRACE + "\u00e9", False),
        ("", False),
    ],
)
def test_a_trace_context_is_sent_on_if_it_is_one(given: str, kept: bool) -> None:
    assert headers.traceparent({headers.TRACEPARENT: given}) == (given if kept else None)
    assert headers.traceparent({}) is None
