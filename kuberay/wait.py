"""Waiting for an object to become ready, with a deadline and a line for every change on the way."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from kuberay.client import Cluster
from kuberay.errors import (
    ApiTimeoutError,
    ServerError,
    UnreachableError,
    WaitTimeoutError,
    WorkloadFailedError,
)
from kuberay.models import Object, State, state_of

PASSING = (ApiTimeoutError, ServerError, UnreachableError)
"""Failures that an upgrade of the API server brings for a while; waiting goes on through them."""


@dataclass(frozen=True)
class Clock:
    """Time, as tests replace it."""

    now: Callable[[], float] = field(default=time.monotonic)
    sleep: Callable[[float], None] = field(default=time.sleep)


def wait_ready(
    cluster: Cluster,
    name: str,
    *,
    timeout_s: float,
    on_progress: Callable[[str], None],
    poll_s: float = 2.0,
    clock: Clock | None = None,
) -> State:
    """Return once the object is ready.

    The object is read again and again rather than watched: a watch has no read timeout, so that a
    connection that died silently would outlive the deadline.

    Raises:
        WaitTimeoutError: it was not ready within `timeout_s` seconds.
        WorkloadFailedError: it failed for good.
        ApiError: the server refused; passing failures only count when the deadline comes.
    """
    clock = clock or Clock()
    deadline = clock.now() + timeout_s
    line = ""
    while True:
        state, seen = _look(cluster, name)
        if seen != line:
            line = seen
            on_progress(line)
        if state and state.ready:
            return state
        if state and state.failed:
            raise WorkloadFailedError(f"{line}. `isthmus cluster logs {name}` tells more.")
        if clock.now() >= deadline:
            raise WaitTimeoutError(
                f"Not ready after {timeout_s:g} s: {line}. `isthmus cluster logs {name}` tells "
                "more; --timeout waits longer."
            )
        clock.sleep(min(poll_s, max(0.0, deadline - clock.now())))


def _look(cluster: Cluster, name: str) -> tuple[State | None, str]:
    try:
        state = _with_pods(cluster, cluster.find(name))
    except PASSING as error:
        return None, str(error)
    return state, f"{state.kind} {state.name}: {state.line}"


def _with_pods(cluster: Cluster, found: Object) -> State:
    """Tell an object's state; the MPI operator calls a job running while its model still loads."""
    state = state_of(found)
    if state.kind != "MPIJob" or not state.ready:
        return state
    waiting = [pod.name for pod in cluster.pods(found) if not (pod.ready or pod.over)]
    if not waiting:
        return replace(state, line=f"ready, {state.line}")
    return replace(state, ready=False, line=f"{state.line}, not ready: {', '.join(waiting)}")
