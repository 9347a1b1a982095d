"""What holds for every run of the tests."""

from __future__ import annotations

import faulthandler

END_SECONDS = 60


def pytest_unconfigure() -> None:
    """Fail, naming the thread, a run whose process a forgotten thread would keep for ever."""
    faulthandler.dump_traceback_later(END_SECONDS, exit=True)
