"""The autoscaling policy with an LLM service that follows a script, for Ray's own machinery."""

from __future__ import annotations

from serve_app.autoscaling import LOOKS, LLMAware, Look, bottleneck


class Scripted(LLMAware):
    """Reads `script`, rows of [from this second on, waiting, time to first token], for /metrics."""

    def __init__(self, script: list[list[float]]) -> None:
        super().__init__()
        self._script = script

    def reason(self, now: float) -> str | None:
        _, waiting, ttft_s = [row for row in self._script if row[0] <= now][-1]
        looks = [Look(now - 5 * ago, waiting, ttft_s) for ago in reversed(range(LOOKS))]
        return bottleneck(looks, now, 60, 2)
