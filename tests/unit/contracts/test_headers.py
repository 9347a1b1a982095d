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


@pytest.mark.parametrize("given", ["0", "-5", "1.5", "soon", "²", ""])
def test_a_bad_deadline_is_refused_by_name(given: str) -> None:
    with pytest.raises(ValueError, match=headers.DEADLINE_MS):
        headers.deadline_seconds({headers.DEADLINE_MS: given})
