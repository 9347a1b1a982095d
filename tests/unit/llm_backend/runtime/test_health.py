from __future__ import annotations

import pytest

from llm_backend.runtime.health import Limits, RankVitals, Vitals, diagnose
from llm_backend.settings import LlmSettings

LIMITS = Limits(start_s=100, heartbeat_s=5, loading_heartbeat_s=60, progress_s=8)


def vitals(*, ready: bool = True, heard: float = 0, step: int = 3, **more: object) -> Vitals:
    ranks = {0: RankVitals(10, 0, 3), 1: RankVitals(11, heard, step)}
    return Vitals(started_at=0, ready=ready, ranks=ranks, **more)  # type: ignore[arg-type]


def test_limits_are_the_settings() -> None:
    limits = Limits.of(LlmSettings(heartbeat_timeout_s=3, progress_timeout_s=4))
    assert (limits.heartbeat_s, limits.progress_s) == (3, 4)


@pytest.mark.parametrize(
    ("case", "now", "reason"),
    [
        (vitals(), 4, None),
        (vitals(heard=-3), 4, "rank 1 (pid 11) has been silent for 7.0 s"),
        (vitals(ready=False, heard=-3), 4, None),
        (vitals(ready=False, heard=-60), 4, "rank 1 (pid 11) has been silent for 64.0 s"),
        (vitals(exit_code=1), 1, "mpirun ended with exit code 1"),
        (vitals(exit_code=0), 1, "mpirun ended with exit code 0"),
        (vitals(stalled_since=-3), 4, None),
        (vitals(stalled_since=-5), 4, "no token for 9.0 s while requests wait"),
        (
            vitals(stalled_since=-5, step=2),
            4,
            "no token for 9.0 s while requests wait; rank 1 is behind, at step 2",
        ),
    ],
)
def test_diagnosis(case: Vitals, now: float, reason: str | None) -> None:
    assert diagnose(case, LIMITS, now) == reason


def test_a_start_that_takes_too_long() -> None:
    slow = Vitals(started_at=0)
    assert diagnose(slow, LIMITS, 99) is None
    assert diagnose(slow, LIMITS, 101) == "not ready 101 s after its start"


def test_a_lost_rank_is_named_before_mpirun_s_exit() -> None:
    case = vitals(exit_code=137)
    case.ranks[1].lost = True
    assert diagnose(case, LIMITS, 0) == "rank 1 ended unexpectedly"
