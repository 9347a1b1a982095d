"""What holds for every run of the tests."""

from __future__ import annotations

import faulthandler
import os
from pathlib import Path

END_SECONDS = 60

if not Path("/dev/nvidiactl").exists():
    # Kernels for GPUs run in Triton's interpreter; whoever imports Triton first fixes that.
    os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_unconfigure() -> None:
    """Fail, naming the thread, a run whose process a forgotten thread would keep for ever."""
    faulthandler.dump_traceback_later(END_SECONDS, exit=True)
