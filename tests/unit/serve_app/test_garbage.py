"""Looking for garbage less often, and still finding it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from serve_app.garbage import EVERY, collect_rarely


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


class Looped:
    def __init__(self) -> None:
        self.itself = self


def test_what_only_holds_itself_goes_in_the_end() -> None:
    collect_rarely()
    lost = weakref.ref(Looped())
    made = []
    while len(made) <= EVERY and lost() is not None:
        made.append(Looped())
    assert lost() is None
