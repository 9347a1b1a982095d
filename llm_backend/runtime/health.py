"""When an engine counts as broken: one pure function over what is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from llm_backend.settings import LlmSettings


@dataclass(slots=True)
class RankVitals:
    """What the lifeline of one rank told. Times are monotonic, in seconds."""

    pid: int
    heard_at: float
    step: int = 0
    lost: bool = False
    """Whether its connection has ended: the process is gone."""


@dataclass(slots=True)
class Vitals:
    """All that is known of one start of the engine."""

    started_at: float
    ready: bool = False
    exit_code: int | None = None
    ranks: dict[int, RankVitals] = field(default_factory=dict)
    stalled_since: float | None = None
    """Since when work waits without any output; None while there is none."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long silence may last, in seconds."""

    start_s: float
    heartbeat_s: float
    loading_heartbeat_s: float
    progress_s: float

    @classmethod
    def of(cls, settings: LlmSettings) -> Limits:
        """Return the limits that the settings name."""
        return cls(
            settings.start_timeout_s,
            settings.heartbeat_timeout_s,
            settings.loading_heartbeat_timeout_s,
            settings.progress_timeout_s,
        )


def diagnose(vitals: Vitals, limits: Limits, now: float) -> str | None:
    """Return why the engine is broken, or None while it is well."""
    if (lost := [rank for rank, seen in vitals.ranks.items() if seen.lost]) != []:
        return f"rank {lost[0]} ended unexpectedly"
    if vitals.exit_code is not None:
        return f"mpirun ended with exit code {vitals.exit_code}"
    return _silent(vitals, limits, now) or _late(vitals, limits, now)


def _silent(vitals: Vitals, limits: Limits, now: float) -> str | None:
    allowed = limits.heartbeat_s if vitals.ready else limits.loading_heartbeat_s
    for rank, seen in vitals.ranks.items():
        if (age := now - seen.heard_at) > allowed:
            return f"rank {rank} (pid {seen.pid}) has been silent for {age:.1f} s"
    return None


def _late(vitals: Vitals, limits: Limits, now: float) -> str | None:
    if not vitals.ready:
        age = now - vitals.started_at
        return f"not ready {age:.0f} s after its start" if age > limits.start_s else None
    if vitals.stalled_since is None or (age := now - vitals.stalled_since) <= limits.progress_s:
        return None
    return f"no token for {age:.1f} s while requests wait{_slowest(vitals.ranks)}"


def _slowest(ranks: Mapping[int, RankVitals]) -> str:
    """Name the rank that the others wait for, when their step counts tell."""
    steps = {rank: seen.step for rank, seen in ranks.items()}
    if len(set(steps.values())) < 2:
        return ""
    rank = min(steps, key=steps.__getitem__)
    return f"; rank {rank} is behind, at step {steps[rank]}"
