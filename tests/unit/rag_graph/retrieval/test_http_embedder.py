"""The embedder over HTTP, against a real server on a socket."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from rag_graph.errors import EmbedderError
from rag_graph.retrieval.embedder import open_embedders
from rag_graph.retrieval.http_embedder import BATCH, HttpEmbedder
from rag_graph.settings import RagSettings
from tests.support.endpoint import Endpoint, serving


def embeddings(asked: dict[str, Any]) -> Any:
    """Embed a number as (number, 1), listed backwards."""
    data = [{"index": i, "embedding": [float(t), 1.0]} for i, t in enumerate(asked["input"])]
    return {"data": data[::-1]}


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with serving(embeddings) as server:
        yield server


def embedder(url: str, dimension: int = 2) -> HttpEmbedder:
    return HttpEmbedder(url, "m", dimension, len, 100, "secret")


async def test_batches_keep_the_order_and_carry_the_key(endpoint: Endpoint) -> None:
    texts = [str(i) for i in range(BATCH + 3)]
    vectors = await embedder(endpoint.url).embed(texts)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)
    assert np.allclose(vectors[:, 0] / vectors[:, 1], range(BATCH + 3), rtol=1e-5)
    assert [len(body["input"]) for _, _, body in endpoint.seen] == [BATCH, 3]
    assert {key for _, key, _ in endpoint.seen} == {"Bearer secret"}


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


async def test_queries_and_documents_have_prompts_of_their_own(endpoint: Endpoint) -> None:
    settings = RagSettings(
        embedder_url=endpoint.url,
        embedder_model="m",
        embedder_dimension=2,
        embedder_query_prompt="1",
        embedder_document_prompt="20",
        _env_file=None,
    )
    default = (await open_embedders(settings)).default
    await default.embed(["3", "4"])
    await default.embed_query("5")
    assert [body["input"] for _, _, body in endpoint.seen] == [["203", "204"], ["15"]]
    assert default.name.startswith("http/m-"), "its documents' vectors are others than the model's"


@pytest.mark.parametrize("which", ["embedder_query_prompt", "embedder_document_prompt"])
def test_prompts_for_no_endpoint_are_refused(which: str) -> None:
    with pytest.raises(ValidationError, match="RAG_EMBEDDER_URL"):
        RagSettings(**{which: "query: "}, _env_file=None)


def test_a_url_without_a_model_is_refused() -> None:
    with pytest.raises(ValidationError, match="RAG_EMBEDDER_MODEL"):
        RagSettings(embedder_url="http://127.0.0.1:1/v1", _env_file=None)
