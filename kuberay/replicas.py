"""Freeing the pods of an LLM replica, and bringing them back.

The MPI operator makes an MPIJob's launcher once, as a Job, and never changes pods that run. A new
image or setting therefore reaches a replica only with new pods: without the old launcher's Job the
operator makes another one from the present spec, and that one only when its workers are ready.
"""

from __future__ import annotations

from collections.abc import Callable

from kuberay import changes
from kuberay.client import Cluster
from kuberay.errors import WaitTimeoutError
from kuberay.wait import PASSING, Clock


def suspend(cluster: Cluster, name: str) -> None:
    """Free the pods of an MPIJob; running requests may finish first.

    Raises:
        ApiError: the server refused, or was not there.
    """
    changes.retry_conflicts(cluster, "MPIJob", name, changes.suspend(True))


def resume(cluster: Cluster, name: str) -> None:
    """Bring a suspended MPIJob's pods back, made from what its spec says now.

    Raises:
        ApiError: as `suspend`.
    """
    if cluster.get("MPIJob", name)["spec"].get("runPolicy", {}).get("suspend"):
        cluster.delete_launcher(name)
    changes.retry_conflicts(cluster, "MPIJob", name, changes.suspend(False))


def restart(
    cluster: Cluster,
    name: str,
    *,
    timeout_s: float,
    on_progress: Callable[[str], None],
    clock: Clock | None = None,
) -> None:
    """Replace all pods of an MPIJob, the old ones first, since GPUs for both are rarely free.

    Raises:
        WaitTimeoutError: the old pods were not gone in time; the job stays suspended.
        ApiError: as `suspend`.
    """
    suspend(cluster, name)
    _wait_gone(cluster, name, timeout_s, on_progress, clock or Clock())
    resume(cluster, name)


def _wait_gone(
    cluster: Cluster, name: str, timeout_s: float, on_progress: Callable[[str], None], clock: Clock
) -> None:
    deadline, line = clock.now() + timeout_s, ""
    while seen := _left(cluster, name):
        if seen != line:
            line = seen
            on_progress(line)
        if clock.now() >= deadline:
            raise WaitTimeoutError(
                f"After {timeout_s:g} s {line}. {name} stays suspended: `isthmus cluster resume "
                f"{name}` brings it back, --timeout waits longer."
            )
        clock.sleep(min(2.0, max(0.0, deadline - clock.now())))


def _left(cluster: Cluster, name: str) -> str:
    try:
        pods = [pod.name for pod in cluster.pods(cluster.get("MPIJob", name)) if not pod.over]
    except PASSING as error:
        return str(error).rstrip(".")
    return f"still ending: {', '.join(pods)}" if pods else ""
