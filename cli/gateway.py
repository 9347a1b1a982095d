"""Client of the gateway's HTTP API, for the commands."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from pydantic import ValidationError

from cli.errors import GatewayError
from cli.settings import CliSettings
from contracts import errors, sse
from rag_graph.llm.failures import retry_after

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 600.0
MOMENT_S = 5
"""Seconds for which an upload is answered with the end of its job rather than its beginning."""
MAX_REFUSALS = 20
"""Times that an upload is tried again while the gateway is full."""
PAUSE_S = 1.0
"""Pause before that where the refusal does not say, in seconds, how long."""
MAX_PAUSE_S = 30.0
FULL = (429, 503)
"""Statuses of a gateway that is full or starts, or of a proxy in front of none."""
PASSING = frozenset({errors.Code.NOT_READY, errors.Code.OVERLOADED, errors.Code.RATE_LIMITED})
"""Codes of a refusal that passes by itself."""
RESTART_S = 2.0
BREAK_PAUSES_S = (0.5, 1.0, 2.0)
"""Pauses before an upload or a job that the connection broke off is taken up again."""
ENDED = ("done", "failed", "cancelled")


@dataclass(frozen=True)
class Refusal:
    """An error response: the sentence, and the passages found where the answer is degraded."""

    message: str
    code: str = ""
    passages: tuple[dict[str, Any], ...] = ()
    status: int = 0
    """Of HTTP; 0 where it came amid a stream."""

    @property
    def passes(self) -> bool:
        """Whether the gateway may think otherwise in a moment; a proxy's page has no code."""
        return self.code in PASSING or (not self.code and self.status in FULL)


class RefusedError(GatewayError):
    """The gateway answered with an error."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class LostError(GatewayError):
    """The connection broke off."""


class AbsentError(LostError):
    """There was nobody to connect to."""


class SilentError(GatewayError):
    """There is a gateway, which does not answer."""


class Gateway:
    """One gateway. Close it, or use it as a context manager."""

    def __init__(
        self, url: str, api_key: str = "", transport: httpx.BaseTransport | None = None
    ) -> None:
        timeout = httpx.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        sent = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.Client(base_url=url, headers=sent, timeout=timeout, transport=transport)
        self._url = url

    @classmethod
    def of(cls, settings: CliSettings) -> Gateway:
        """Return a client of the gateway that the settings name."""
        return cls(settings.gateway_url, settings.isthmus_api_key.get_secret_value())

    def __enter__(self) -> Gateway:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def add_document(self, name: str, path: Path, collection: str) -> dict[str, Any]:
        """Upload one document and return its job, ended if that took no longer than a moment.

        A gateway that is full or that limits the key says when to come back, and is waited for.
        What the connection broke off is sent again: a document that is there already stays.

        Raises:
            RefusedError: the gateway does not take it.
            AbsentError: there is no gateway.
            SilentError: it does not answer in time.
            LostError: the connection breaks off again and again.
            OSError: the file cannot be read.
        """
        patience = MAX_REFUSALS
        while (response := self._upload(name, path, collection)).status_code in FULL:
            if not patience or not _refusal(response).passes:
                break
            patience -= 1
            time.sleep(min(retry_after(response.headers) or PAUSE_S, MAX_PAUSE_S))
        return self._json(response)

    def _upload(self, name: str, path: Path, collection: str) -> httpx.Response:
        for pause in BREAK_PAUSES_S:
            try:
                return self._send(name, path, collection)
            except LostError:
                time.sleep(pause)
        return self._send(name, path, collection)

    def _send(self, name: str, path: Path, collection: str) -> httpx.Response:
        with path.open("rb") as file, self._failures():
            return self._http.post(
                "/v1/documents",
                params={"wait": MOMENT_S},
                data={"collection": collection},
                files={"file": (name, file)},
            )

    def follow(self, job_id: str) -> Iterator[dict[str, Any]]:
        """Yield a job as it goes on, until it has ended, also over a restart of the ingestor.

        Raises:
            RefusedError: there is no such job.
            AbsentError: there is no gateway.
            SilentError: nothing comes in time.
            LostError: the connection breaks off again and again.
        """
        patience, last = MAX_REFUSALS, dict[str, Any]()
        pauses = iter(BREAK_PAUSES_S)
        while True:
            try:
                for job in self._events(job_id):
                    if job != last:  # how it stands is told at each connection: that is no progress
                        last, pauses = job, iter(BREAK_PAUSES_S)
                    yield job
                    if job["status"] in ENDED:
                        return
            except LostError:
                pause = next(pauses, None)
                if pause is None:
                    raise
                time.sleep(pause)
            except RefusedError as error:
                if not error.refusal.passes or not patience:
                    raise
                patience -= 1
                time.sleep(RESTART_S)

    def _events(self, job_id: str) -> Iterator[dict[str, Any]]:
        with self._failures(), self._http.stream("GET", f"/v1/jobs/{job_id}/events") as response:
            if response.status_code != 200:
                response.read()
                raise RefusedError(_refusal(response))
            decoder = sse.Decoder()
            for chunk in response.iter_bytes():
                for event in decoder.feed(chunk):
                    job: dict[str, Any] = json.loads(event.data)
                    if "id" not in job:
                        raise RefusedError(Refusal(job["error"]["message"], job["error"]["code"]))
                    yield job
        raise LostError("The progress of the job broke off. Try again.")  # nobody saw its end

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        """Return what a GET of `path` answers.

        Raises:
            RefusedError: the gateway answered with an error.
            GatewayError: the gateway cannot be reached.
        """
        with self._failures():
            return self._json(self._http.get(path, params=params))

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Return what a POST of `body` to `path` answers; raises as `get` does."""
        with self._failures():
            return self._json(self._http.post(path, json=body))

    def delete(self, path: str, **params: Any) -> dict[str, Any]:
        """Return what a DELETE of `path` answers; raises as `get` does."""
        with self._failures():
            return self._json(self._http.delete(path, params=params))

    @staticmethod
    def _json(response: httpx.Response) -> dict[str, Any]:
        if not response.is_success:
            raise RefusedError(_refusal(response))
        answer: dict[str, Any] = response.json() if response.content else {}
        return answer

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise AbsentError(
                f"There is no gateway at {self._url}. Start one with `isthmus up`, "
                "or set ISTHMUS_URL to where it is."
            ) from error
        except httpx.TimeoutException as error:
            raise SilentError(
                f"The gateway at {self._url} does not answer ({type(error).__name__}). Try again."
            ) from error
        except httpx.HTTPError as error:
            raise LostError(
                f"The gateway at {self._url} broke off ({type(error).__name__}). Try again."
            ) from error


def _refusal(response: httpx.Response) -> Refusal:
    try:
        error = errors.ErrorEnvelope.model_validate_json(response.content).error
    except ValidationError:
        return Refusal(
            f"The gateway answered HTTP {response.status_code}.", status=response.status_code
        )
    passages = tuple(response.json().get("passages", ()))
    return Refusal(error.message, error.code, passages, response.status_code)
