"""Client of the gateway's HTTP API, for the commands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from pydantic import ValidationError

from cli.errors import GatewayError
from cli.settings import CliSettings
from contracts import errors, sse

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 600.0


@dataclass
class Answer:
    """An answer as it comes about: complete once the stream has ended."""

    citations: list[dict[str, Any]] = field(default_factory=list)
    info: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Refusal:
    """An error response: the sentence, and the passages found where the answer is degraded."""

    message: str
    code: str = ""
    passages: tuple[dict[str, Any], ...] = ()


class RefusedError(GatewayError):
    """The gateway answered with an error."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class Gateway:
    """One gateway. Close it, or use it as a context manager."""

    def __init__(
        self, url: str, api_key: str = "", transport: httpx.BaseTransport | None = None
    ) -> None:
        timeout = httpx.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.Client(
            base_url=url, headers=headers, timeout=timeout, transport=transport
        )
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
        """Upload one document and return the gateway's report on it.

        Raises:
            RefusedError: the gateway does not take it.
            GatewayError: the gateway cannot be reached.
            OSError: the file cannot be read.
        """
        with path.open("rb") as file, self._failures():
            response = self._http.post(
                "/v1/documents", data={"collection": collection}, files={"file": (name, file)}
            )
        if response.status_code != 201:
            raise RefusedError(_refusal(response))
        report: dict[str, Any] = response.json()
        return report

    def model(self) -> str:
        """Return the id of the first model, the retrieval-augmented one.

        Raises:
            RefusedError: the gateway answered with an error.
            GatewayError: the gateway cannot be reached.
        """
        with self._failures():
            response = self._http.get("/v1/models")
        if response.status_code != 200:
            raise RefusedError(_refusal(response))
        return str(response.json()["data"][0]["id"])

    def ask(self, question: str, collection: str, top_k: int | None, into: Answer) -> Iterator[str]:
        """Yield the pieces of the answer; what else comes with it goes `into`.

        Raises:
            RefusedError: the gateway answered with an error, perhaps in the middle.
            GatewayError: the gateway cannot be reached, or broke off.
        """
        body: dict[str, Any] = {
            "model": self.model(),
            "messages": [{"role": "user", "content": question}],
            "stream": True,
            "collection": collection,
        }
        if top_k is not None:
            body["top_k"] = top_k
        with (
            self._failures(),
            self._http.stream("POST", "/v1/chat/completions", json=body) as response,
        ):
            if response.status_code != 200:
                response.read()
                raise RefusedError(_refusal(response))
            yield from _pieces(response, into)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except httpx.ConnectError as error:
            raise GatewayError(
                f"There is no gateway at {self._url}. Start one with `isthmus up`, "
                "or set ISTHMUS_URL to where it is."
            ) from error
        except httpx.HTTPError as error:
            raise GatewayError(
                f"The gateway at {self._url} broke off ({type(error).__name__}). Try again."
            ) from error


def _pieces(response: httpx.Response, into: Answer) -> Iterator[str]:
    decoder = sse.Decoder()
    for chunk in response.iter_bytes():
        for event in decoder.feed(chunk):
            if event.data == sse.DONE:
                return
            yield from _piece(json.loads(event.data), into)
    raise GatewayError("The answer ended in the middle. Ask again.")


def _piece(data: dict[str, Any], into: Answer) -> Iterator[str]:
    if "error" in data:
        raise RefusedError(Refusal(data["error"]["message"]))
    into.citations = data.get("citations", into.citations)
    into.info = data.get("isthmus", into.info)
    for choice in data["choices"]:
        if text := choice["delta"].get("content"):
            yield text


def _refusal(response: httpx.Response) -> Refusal:
    try:
        error = errors.ErrorEnvelope.model_validate_json(response.content).error
    except ValidationError:
        return Refusal(f"The gateway answered HTTP {response.status_code}.")
    return Refusal(error.message, error.code, tuple(response.json().get("passages", ())))
