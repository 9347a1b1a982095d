"""The gateway's autoscaling policy, in Ray Serve's own autoscaling machinery on a fake clock."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest
from ray.serve import autoscaling_policy
from ray.serve._private import autoscaling_state
from ray.serve._private.common import (
    DeploymentHandleSource,
    DeploymentID,
    HandleMetricReport,
    ReplicaID,
    ReplicaMetricReport,
    TimeStampedValue,
)
from ray.serve._private.config import DeploymentConfig, ReplicaConfig
from ray.serve._private.deployment_info import DeploymentInfo
from ray.serve.config import AutoscalingConfig

from contracts.mock_load import Batch
from serve_app import autoscaling
from serve_app.autoscaling import WAITING, Look, bottleneck, read

GATEWAY = DeploymentID(name="Gateway", app_name="isthmus")


class Clock:
    """`time`, standing still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    monotonic = time

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(autoscaling_state, "time", made)
    monkeypatch.setattr(autoscaling_policy, "time", made)
    return made


def replay(
    clock: Clock, policy: dict[str, Any], ongoing: list[float], waiting: float = 0
) -> list[int]:
    """Return the replicas at the end of each ten seconds with so many requests ongoing.

    `waiting` of them wait in each replica for the LLM service.
    """
    config = AutoscalingConfig(
        min_replicas=1,
        max_replicas=8,
        target_ongoing_requests=10,
        upscale_delay_s=5,
        downscale_delay_s=20,
        look_back_period_s=11,
        policy=policy,
    )
    state = autoscaling_state.DeploymentAutoscalingState(GATEWAY)
    deployment = DeploymentInfo(
        deployment_config=DeploymentConfig(autoscaling_config=config, max_ongoing_requests=100),
        replica_config=ReplicaConfig.create(lambda: 1),
        start_time_ms=0,
        deployer_job_id="00",
        version="1",
    )
    target, seen = state.register(deployment, 1), []
    samples: list[TimeStampedValue] = []
    for load in ongoing:
        for _ in range(10):
            clock.now += 1
            samples.append(TimeStampedValue(clock.now, load))
            state.update_running_replica_ids(
                [ReplicaID(f"r{n}", deployment_id=GATEWAY) for n in range(target)]
            )
            report = HandleMetricReport(
                deployment_id=GATEWAY,
                handle_id="h",
                actor_id="a",
                handle_source=DeploymentHandleSource.PROXY,
                queued_requests=samples[-11:],
                metrics={},
                timestamp=clock.now,
            )
            state.record_request_metrics_for_handle(report)
            reported = [TimeStampedValue(clock.now, waiting)]
            state.record_request_metrics_for_replica(
                ReplicaMetricReport(
                    ReplicaID("r0", deployment_id=GATEWAY), {WAITING: reported}, clock.now
                )
            )
            target = state.get_decision_num_replicas(target)
        seen.append(target)
    return seen


def scripted(*script: list[float]) -> dict[str, Any]:
    path = "tests.support.scripted_policy:Scripted"
    return {"policy_function": path, "policy_kwargs": {"script": list(script)}}


LOAD = [10.0, 40.0, 40.0, 40.0, 40.0, 40.0]


def test_while_the_llm_has_room_it_scales_as_serve_does(clock: Clock) -> None:
    own = replay(clock, {}, LOAD)
    assert own[-1] == 4
    clock.now = 1000.0
    assert replay(clock, scripted([0, 0, 0.1]), LOAD) == own


@pytest.mark.parametrize("full", [[0.0, 3.0, 0.1], [0.0, 0.0, 9.0]], ids=["queue", "ttft"])
def test_while_the_llm_is_full_no_replica_is_added(
    clock: Clock, full: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("ray.serve").addHandler(caplog.handler)
    room_again = [1040.0, 0.0, 0.1]
    with caplog.at_level(logging.INFO, "ray.serve"):
        seen = replay(clock, scripted(full, room_again), LOAD)
    logging.getLogger("ray.serve").removeHandler(caplog.handler)
    assert seen[:4] == [1, 1, 1, 1]
    assert seen[-1] == 4
    assert caplog.text.count("the LLM service is the bottleneck, ") == 1
    assert caplog.text.count("may grow again") == 1


def test_while_questions_wait_for_the_llm_no_replica_is_added(clock: Clock) -> None:
    assert replay(clock, scripted([0, 0, 0.1]), LOAD, waiting=3)[-1] == 1


def test_it_still_shrinks_while_the_llm_is_full(clock: Clock) -> None:
    script = scripted([0, 0, 0.1], [1060.0, 9.0, 0.1])
    seen = replay(clock, script, [*LOAD, 10.0, 10.0, 10.0, 10.0, 10.0])
    assert seen[5] == 4
    assert seen[-1] == 1


def looks(*waiting: float, ttft_s: float | None = None) -> list[Look]:
    return [Look(100.0 + 5 * n, w, ttft_s) for n, w in enumerate(waiting)]


def test_only_a_queue_that_stands_counts() -> None:
    assert bottleneck(looks(9, 0, 0, 9, 0), 121, 30, 2) is None
    assert bottleneck(looks(9, 9), 106, 30, 2) is None
    assert bottleneck(looks(1, 1, 0, 0, 1), 121, 30, 2) == "1 sequences wait there"
    assert bottleneck(looks(1, 1, 1), 141, 30, 2) is None, "old news decide nothing"
    assert bottleneck(looks(0, 0, 0, ttft_s=3), 111, 30, 2) == "its first tokens take 3.0 s"


def test_metrics_are_read_of_all_endpoints() -> None:
    mean = autoscaling._MeanSince()
    batch = Batch()
    batch.first_token(0.5)
    one = read([batch.metrics(0), batch.metrics(0)], 1.0, mean)
    assert one == Look(1.0, 0.0, 0.5)
    batch.first_token(3.5)
    assert read([batch.metrics(0), batch.metrics(0)], 2.0, mean).ttft_s == 3.5
    assert read([batch.metrics(0), batch.metrics(0)], 3.0, mean).ttft_s is None
