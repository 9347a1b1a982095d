from __future__ import annotations

from contracts import telemetry
from llm_backend.api.metrics import Metrics, RequestTimer
from llm_backend.runtime import ipc
from llm_backend.runtime.supervisor import State, Status


def render(metrics: Metrics) -> list[str]:
    status = Status(State.READY, restarts=2)
    stats = ipc.Stats(9, 3, 1, 40, 100, 5, cached_tokens=32)
    return metrics.render(status, stats).decode().splitlines()


def test_engine_figures() -> None:
    lines = render(Metrics())
    assert f"{telemetry.LLM_ENGINE_READY} 1.0" in lines
    assert f"{telemetry.LLM_REQUESTS_RUNNING} 3.0" in lines
    assert f'{telemetry.LLM_KV_BLOCKS}{{state="free"}} 40.0' in lines
    assert f"{telemetry.LLM_ENGINE_RESTARTS_TOTAL} 2.0" in lines
    assert f"{telemetry.LLM_CACHED_TOKENS_TOTAL} 32.0" in lines
    assert f"# TYPE {telemetry.LLM_PREEMPTIONS_TOTAL} counter" in lines


def test_a_request_is_counted_once() -> None:
    metrics = Metrics()
    timer = RequestTimer(metrics)
    timer.tokens(0, 1)
    timer.tokens(1, 1)
    timer.tokens(0, 1)
    timer.finish("ok", 7)
    timer.finish("aborted", 7)
    lines = render(metrics)
    assert f'{telemetry.LLM_REQUESTS_TOTAL}{{outcome="ok"}} 1.0' in lines
    assert f"{telemetry.LLM_PROMPT_TOKENS_TOTAL} 7.0" in lines
    assert f"{telemetry.LLM_GENERATED_TOKENS_TOTAL} 3.0" in lines
    assert f"{telemetry.LLM_TTFT_SECONDS}_count 1.0" in lines
    assert f"{telemetry.LLM_ITL_SECONDS}_count 1.0" in lines


def test_prompt_tokens_are_those_of_answered_requests() -> None:
    metrics = Metrics()
    RequestTimer(metrics).finish("aborted", 7)
    lines = render(metrics)
    assert f'{telemetry.LLM_REQUESTS_TOTAL}{{outcome="aborted"}} 1.0' in lines
    assert f"{telemetry.LLM_PROMPT_TOKENS_TOTAL} 0.0" in lines
