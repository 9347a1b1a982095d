"""Calling another deployment: arguments and results as usual, failures as our own errors."""

from __future__ import annotations

from typing import Any

from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from contracts.errors import Code, CodedError
from serve_app.errors import UnavailableError


class Remote:
    """The methods of another deployment's replicas."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._handle = handle
        self._methods: dict[str, DeploymentHandle[Any]] = {}

    async def call(self, method: str, *args: Any) -> Any:
        """Return what `method` of a replica returns.

        Cancelling this call cancels it in the replica too.

        Raises:
            RagError: the replica raised it.
            UnavailableError: no replica could take the call, or the one that had it died.
        """
        try:
            return await self._method(method).remote(*args)
        except RayTaskError as error:
            cause = error.cause  # the error itself: RayTaskError's own text is a traceback
            if isinstance(cause, CodedError):
                raise cause from None
            raise
        except BackPressureError as error:
            name = self._handle.deployment_name
            message = f"The {name} has too many requests waiting; try again later."
            raise UnavailableError(message, Code.OVERLOADED) from error
        except (RayActorError, DeploymentUnavailableError) as error:
            message = f"The {self._handle.deployment_name} is restarting; try again in a moment."
            raise UnavailableError(message) from error

    def _method(self, name: str) -> DeploymentHandle[Any]:
        """Return a handle that calls the method `name`, made once.

        Arguments are plain values, for which Ray's default, cloudpickle, is not needed.
        """
        if name not in self._methods:
            self._methods[name] = self._handle.options(
                method_name=name, request_serialization="pickle"
            )
        return self._methods[name]
