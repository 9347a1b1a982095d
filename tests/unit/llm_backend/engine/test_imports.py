"""The engine room stays free of what is slow to import and hard to install."""

from __future__ import annotations

import subprocess
import sys


def test_the_engine_loads_no_torch() -> None:
    program = (
        "import sys, llm_backend.engine.engine, llm_backend.engine.sampler;"
        "print([m for m in ('torch', 'transformers', 'deepspeed', 'mpi4py') if m in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert done.stdout.strip() == "[]", done.stderr
