"""HTTP with the gateway: JSON and server-sent events, errors as this package's own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from pydantic import ValidationError

from contracts import headers, sse
from contracts.errors import ErrorEnvelope
from isthmus_client.errors import RefusedError, UnreachableError

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 600.0


class Http:
    """Connections to one gateway."""

    def __init__(self, url: str, api_key: str, transport: httpx.AsyncBaseTransport | None) -> None:
        self._url = url
        self._http = httpx.AsyncClient(
            base_url=url,
            headers={"authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            transport=transport,
        )

    async def aclose(self) -> None:
        """Close them."""
        await self._http.aclose()

    async def json(self, method: str, path: str, **sent: Any) -> Any:
        """Return the body of a response, None of an empty one.

        Raises:
            RefusedError: it is an error.
            UnreachableError: there is none.
        """
        with self._failures():
            response = await self._http.request(method, path, **sent)
        if not response.is_success:
            raise _refused(response)
        return response.json() if response.content else None

    async def events(self, method: str, path: str, **sent: Any) -> AsyncGenerator[sse.Event, None]:
        """Yield the events of a stream; raises as `json` does."""
        with self._failures():
            async with self._http.stream(method, path, **sent) as response:
                if not response.is_success:
                    await response.aread()
                    raise _refused(response)
                async for event in sse.decode(response.aiter_bytes()):
                    yield event

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except httpx.ConnectError as error:
            raise UnreachableError(f"There is no gateway at {self._url}.") from error
        except httpx.HTTPError as error:
            what = type(error).__name__
            message = f"The gateway at {self._url} broke off ({what}). Try again."
            raise UnreachableError(message) from error


def _refused(response: httpx.Response) -> RefusedError:
    status, again = response.status_code, _retry_after(response)
    try:
        error = ErrorEnvelope.model_validate_json(response.content).error
    except ValidationError:  # a proxy's page
        return RefusedError(f"The gateway answered HTTP {status}.", "", status, again)
    passages = tuple(response.json().get("passages", ()))
    return RefusedError(error.message, error.code, status, again, passages)


def _retry_after(response: httpx.Response) -> float | None:
    """Return the seconds that a response asks to wait, if it says so in seconds."""
    value = response.headers.get(headers.RETRY_AFTER, "")
    return float(value) if value.isascii() and value.isdigit() else None
