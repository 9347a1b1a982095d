"""The Kubernetes API for our three kinds: server-side apply, get, watch, replace, delete, logs.

Every failure leaves as one of `kuberay.errors`, with the object's name and the server's own reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Self

import httpx2
import lightkube
from lightkube.config.kubeconfig import KubeConfig
from lightkube.core import exceptions as foreign
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import Pod
from lightkube.types import CascadeType

from kuberay import errors
from kuberay.models import RESOURCES, Kind, Object, PodState, kind_of, pod_state, status_of

MANAGER = "isthmus"
"""Field manager: the name under which the API server notes which fields are ours."""

_MENDS: Mapping[int, tuple[type[errors.ApiError], str]] = {
    400: (errors.InvalidError, "Correct the manifest."),
    401: (errors.UnauthorizedError, "Log in again, for example with `az aks get-credentials`."),
    403: (errors.ForbiddenError, "Ask for the role that the chart's value `operators` grants."),
    404: (errors.NotFoundError, "Check name and namespace, and that helm/platform is installed."),
    409: (errors.ConflictError, "Look at the object, then try again or take over with --force."),
    422: (errors.InvalidError, "Correct the manifest."),
    429: (errors.ServerError, "Try again in a moment."),
}


class Cluster:
    """One namespace of a cluster. Usable as a context manager."""

    def __init__(self, client: lightkube.Client, dry_run: bool = False) -> None:
        self._client = client
        self._dry_run = dry_run

    @classmethod
    def connect(
        cls,
        *,
        context: str = "",
        namespace: str = "",
        timeout_s: float = 10.0,
        dry_run: bool = False,
    ) -> Self:
        """Use the account inside a pod, `KUBECONFIG`, or `~/.kube/config`, as kubectl does.

        Raises:
            ClusterError: there is no usable configuration.
        """
        try:
            config = KubeConfig.from_env().get(context or None)
        except (foreign.ConfigError, OSError) as error:
            raise errors.ClusterError(
                f"No cluster to talk to: {error}. Set KUBECONFIG or run `az aks get-credentials`."
            ) from error
        if config is None or config.user is None:
            raise errors.ClusterError(
                "The kubeconfig's context names no user. Run `az aks get-credentials`."
            )
        client = lightkube.Client(
            config,
            namespace=namespace or None,
            timeout=httpx2.Timeout(timeout_s),
            field_manager=MANAGER,
            dry_run=dry_run,
        )
        return cls(client, dry_run)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    @property
    def namespace(self) -> str:
        """The namespace that all calls are about."""
        return str(self._client.namespace)

    def apply(self, manifest: Object, *, force: bool = False) -> Object:
        """Create or change an object by server-side apply and return it as the server has it.

        Raises:
            ManifestError: the kind is not ours.
            ApiError: the server refused, or was not there.
        """
        kind = kind_of(manifest)
        name = manifest["metadata"]["name"]
        with _mapped(f"Applying {kind} {name}"):
            return dict(self._client.apply(RESOURCES[kind](**manifest), force=force))

    def get(self, kind: Kind, name: str) -> Object:
        """Return one object.

        Raises:
            ApiError: as `apply`.
        """
        with _mapped(f"Reading {kind} {name}"):
            return dict(self._client.get(RESOURCES[kind], name))

    def find(self, name: str) -> Object:
        """Return the RayService, MPIJob or RayCluster of that name.

        Raises:
            NotFoundError: there is none.
            ApiError: as `apply`.
        """
        for kind in ("RayService", "MPIJob", "RayCluster"):
            try:
                return self.get(kind, name)
            except errors.NotFoundError:
                continue
        raise errors.NotFoundError(
            f"No RayService, MPIJob or RayCluster is named {name} in namespace {self.namespace}; "
            "`isthmus cluster status` lists them.",
            404,
        )

    def list_all(self, kind: Kind) -> list[Object]:
        """Return all objects of a kind.

        Raises:
            ApiError: as `apply`.
        """
        with _mapped(f"Listing {kind}s"):
            return [dict(found) for found in self._client.list(RESOURCES[kind])]

    def watch(self, kind: Kind, name: str) -> Iterator[Object]:
        """Yield an object at every change of it, without end until it is deleted.

        Raises:
            ApiError: as `apply`.
        """
        with _mapped(f"Watching {kind} {name}"):
            for change, found in self._client.watch(
                RESOURCES[kind], fields={"metadata.name": name}
            ):
                if change == "DELETED":
                    return
                yield dict(found)

    def replace(self, found: Object) -> Object:
        """Write back an object that was read, unless somebody changed it in between.

        Raises:
            ConflictError: somebody did.
            ApiError: as `apply`.
        """
        kind = kind_of(found)
        name = found["metadata"]["name"]
        with _mapped(f"Changing {kind} {name}"):
            return dict(self._client.replace(RESOURCES[kind](**found), name))

    def delete(self, kind: Kind, name: str) -> None:
        """Delete an object and, by the operators, its pods.

        Raises:
            ApiError: as `apply`.
        """
        with _mapped(f"Deleting {kind} {name}"):
            self._client.delete(RESOURCES[kind], name, dry_run=self._dry_run)

    def delete_launcher(self, name: str) -> None:
        """Delete the Job by which the MPI operator runs an MPIJob's launcher, if there is one.

        Raises:
            ApiError: as `apply`.
        """
        with suppress(errors.NotFoundError), _mapped(f"Deleting Job {name}-launcher"):
            self._client.delete(
                Job, f"{name}-launcher", cascade=CascadeType.BACKGROUND, dry_run=self._dry_run
            )

    def pods(self, found: Object) -> list[PodState]:
        """Return the pods that an object has now, by name.

        Raises:
            ApiError: as `apply`.
        """
        with _mapped(f"Listing the pods of {found['metadata']['name']}"):
            pods = [pod_state(pod) for pod in self._client.list(Pod, labels=_pod_labels(found))]
            return sorted(pods, key=lambda pod: pod.name)

    def logs(self, pod: str, *, tail: int, follow: bool) -> Iterator[str]:
        """Yield lines of a pod's log.

        Raises:
            ApiError: as `apply`.
        """
        with _mapped(f"Reading the log of pod {pod}"):
            yield from self._client.log(pod, tail_lines=tail, follow=follow, newlines=False)


def _pod_labels(found: Object) -> dict[str, Any]:
    """Labels that the operators put on the pods of an object."""
    name = found["metadata"]["name"]
    match kind_of(found):
        case "MPIJob":
            return {"training.kubeflow.org/job-name": name}
        case "RayCluster":
            return {"ray.io/cluster": name}
        case "RayService":
            return {"ray.io/cluster": status_of(found).activeServiceStatus.rayClusterName or name}


@contextmanager
def _mapped(doing: str) -> Iterator[None]:
    """Turn every failure of the client library into one of ours."""
    try:
        yield
    except foreign.ApiError as error:
        raise _refused(doing, int(error.status.code or 0), str(error.status.message)) from error
    except httpx2.HTTPStatusError as error:  # an answer that is not the API server's own
        status = error.response.status_code
        raise _refused(doing, status, error.response.reason_phrase) from error
    except httpx2.TimeoutException as error:
        raise errors.ApiTimeoutError(
            f"{doing}: the API server did not answer in time. Try again, or raise --api-timeout."
        ) from error
    except httpx2.HTTPError as error:
        raise errors.UnreachableError(
            f"{doing}: the API server cannot be reached ({error}). "
            "Check the VPN and `kubectl cluster-info`."
        ) from error


def _refused(doing: str, status: int, reason: str) -> errors.ApiError:
    broken = (errors.ServerError, "Try again; if it lasts, look at the cluster's health.")
    kind, mend = _MENDS.get(status, broken)
    return kind(f"{doing}: the API server answered {status}: {reason.rstrip('.')}. {mend}", status)
