"""Calling another deployment: arguments and results as usual, failures as our own errors."""

from __future__ import annotations

from typing import Any

from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from contracts.errors import Code
from rag_graph.errors import RagError
from serve_app.errors import ServeAppError, UnavailableError


async def call(handle: DeploymentHandle[Any], method: str, *args: Any) -> Any:
    """Return what `method` of a deployment's replica returns.

    Cancelling this call cancels it in the replica too.

    Raises:
        RagError: the replica raised it.
        UnavailableError: no replica could take the call, or the one that had it died.
    """
    try:
        return await getattr(handle, method).remote(*args)
    except RayTaskError as error:
        cause = error.cause  # the error itself: RayTaskError's own text is a traceback
        if isinstance(cause, RagError | ServeAppError):
            raise cause from None
        raise
    except BackPressureError as error:
        message = f"The {handle.deployment_name} has too many requests waiting; try again later."
        raise UnavailableError(message, Code.OVERLOADED) from error
    except (RayActorError, DeploymentUnavailableError) as error:
        message = f"The {handle.deployment_name} is restarting; try again in a moment."
        raise UnavailableError(message) from error
