"""The embedder over HTTP, against a real server on a socket."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from rag_graph.errors import EmbedderError
from rag_graph.retrieval.embedder import open_embedders
from rag_graph.retrieval.http_embedder import BATCH, HttpEmbedder
from rag_graph.settings import RagSettings


class Endpoint(ThreadingHTTPServer):
    """Embeds a number as (number, 1), listed backwards; first sends the failures told to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.failures: list[int] = []
        self.seen: list[tuple[str | None, dict[str, Any]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((self.headers["Authorization"], body))
        status = self.server.failures.pop(0) if self.server.failures else 200
        data = [{"index": i, "embedding": [float(t), 1.0]} for i, t in enumerate(body["input"])]
        answer = json.dumps({"data": data[::-1]}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its base names it
        """Tests print nothing."""


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    server = Endpoint()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def embedder(url: str, dimension: int = 2) -> HttpEmbedder:
    return HttpEmbedder(url, "m", dimension, len, 100, "secret")


async def test_batches_keep_the_order_and_carry_the_key(endpoint: Endpoint) -> None:
    texts = [str(i) for i in range(BATCH + 3)]
    vectors = await embedder(endpoint.url).embed(texts)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)
    assert np.allclose(vectors[:, 0] / vectors[:, 1], range(BATCH + 3), rtol=1e-5)
    assert [len(body["input"]) for _, body in endpoint.seen] == [BATCH, 3]
    assert {key for key, _ in endpoint.seen} == {"Bearer secret"}


async def test_an_overloaded_endpoint_is_asked_again(endpoint: Endpoint) -> None:
    endpoint.failures = [503, 429]
    assert (await embedder(endpoint.url).embed(["1"])).shape == (1, 2)
    assert len(endpoint.seen) == 3


async def test_a_refusal_is_not_repeated(endpoint: Endpoint) -> None:
    endpoint.failures = [401]
    with pytest.raises(EmbedderError, match="HTTP 401"):
        await embedder(endpoint.url).embed(["1"])
    assert len(endpoint.seen) == 1


async def test_another_dimension_is_refused(endpoint: Endpoint) -> None:
    with pytest.raises(EmbedderError, match="RAG_EMBEDDER_DIMENSION"):
        await embedder(endpoint.url, 3).embed(["1"])


async def test_a_url_makes_it_the_model_of_new_collections(endpoint: Endpoint) -> None:
    settings = RagSettings(
        embedder_url=endpoint.url, embedder_model="m", embedder_dimension=2, _env_file=None
    )
    default = (await open_embedders(settings)).default
    assert (default.name, default.dimension) == ("http/m", 2)
    assert (await default.embed(["1"])).shape == (1, 2)


def test_a_url_without_a_model_is_refused() -> None:
    with pytest.raises(ValidationError, match="RAG_EMBEDDER_MODEL"):
        RagSettings(embedder_url="http://127.0.0.1:1/v1", _env_file=None)
