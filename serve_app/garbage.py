"""How often Python looks for objects that only hold each other."""

from __future__ import annotations

import gc

EVERY = 20_000
"""Objects made, less those gone, between two looks. Python's 700 is less than the requests under
way hold among them, so that it looked at their growing and shrinking: a tenth of the gateway's CPU,
for next to nothing found (docs/benchmarks.md)."""


def collect_rarely() -> None:
    """Look for garbage less often, in a process that answers requests."""
    gc.set_threshold(EVERY)
