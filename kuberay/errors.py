"""Everything that `kuberay` raises on purpose.

    ClusterError
    ├── ManifestError             a manifest, values or plan file is not what it should be
    │   └── UnknownVmSizeError    a node pool's VM size has no known capacity
    ├── WaitTimeoutError          a condition did not hold before its deadline
    ├── WorkloadFailedError       an object reached a state from which waiting is useless
    └── ApiError                  the Kubernetes API server refused, or was not there
        ├── UnreachableError      no connection to it
        ├── ApiTimeoutError       it did not answer in time
        ├── UnauthorizedError     401: who are you?
        ├── ForbiddenError        403: this account may not do that
        ├── NotFoundError         404: no such object, or its kind is not installed
        ├── ConflictError         409: somebody else changed or owns it
        ├── InvalidError          422 and 400: the server's validation refused the object
        └── ServerError           429 and 5xx: it is overloaded or broken

`str(error)` is a sentence for a person that names the object and the mend; the server's own words
are in it.
"""

from __future__ import annotations


class ClusterError(Exception):
    """Base of the tree."""


class ManifestError(ClusterError):
    """A manifest, values or plan file cannot be read as what it should be."""


class UnknownVmSizeError(ManifestError):
    """A node pool's VM size has no known capacity."""


class WaitTimeoutError(ClusterError):
    """A condition did not hold before its deadline."""


class WorkloadFailedError(ClusterError):
    """An object reached a state from which waiting is useless."""


class ApiError(ClusterError):
    """The Kubernetes API server refused, or was not there. `status` is HTTP's, 0 without one."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message, status)
        self.message = message
        self.status = status

    def __str__(self) -> str:
        return self.message


class UnreachableError(ApiError):
    """There was no connection to the API server."""


class ApiTimeoutError(ApiError):
    """The API server did not answer in time."""


class UnauthorizedError(ApiError):
    """The API server does not know the caller."""


class ForbiddenError(ApiError):
    """The caller may not do that."""


class NotFoundError(ApiError):
    """There is no such object, or its kind is not installed."""


class ConflictError(ApiError):
    """Somebody else changed the object or owns a field of it."""


class InvalidError(ApiError):
    """The API server's validation refused the object."""


class ServerError(ApiError):
    """The API server is overloaded or broken."""
