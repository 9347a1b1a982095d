"""Reranking: a real ONNX model and real endpoints, and what comes of their failures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from pydantic import ValidationError
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from contracts.mock_llm import MockLLM
from rag_graph.errors import RerankerError
from rag_graph.graph import RagGraph
from rag_graph.ingest.pipeline import Ingestor
from rag_graph.llm.asgi_transport import StreamingASGITransport
from rag_graph.llm.client import LLMClient
from rag_graph.retrieval.embedder import Embedders
from rag_graph.retrieval.reranker import HttpReranker, OnnxReranker, open_reranker
from rag_graph.retrieval.retriever import Retriever
from rag_graph.retrieval.store import Store
from rag_graph.settings import RagSettings
from rag_graph.state import Answered, Question, SearchQuery
from tests.support.endpoint import Endpoint, serving
from tests.support.rag import FakeEmbedder

TEXTS = ["one word", "taint taint taint", "a taint"]


def cross_encoder(folder: Path) -> Path:
    """Write a model whose logit is how often the text says the question's first word."""
    vocabulary = {w: i for i, w in enumerate(["[UNK]", "[CLS]", "[SEP]", "taint", "word"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    tokenizer.save(str(folder / "tokenizer.json"))
    names = ["input_ids", "token_type_ids"]
    numbers = {"begin": [1], "end": [2], "axis": [1], "text": [1]}
    nodes = [
        helper.make_node("Slice", ["input_ids", "begin", "end", "axis"], ["first"]),
        helper.make_node("Equal", ["input_ids", "first"], ["same"]),
        helper.make_node("Equal", ["token_type_ids", "text"], ["in_text"]),
        helper.make_node("And", ["same", "in_text"], ["said"]),
        helper.make_node("Cast", ["said"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["numbers", "axis"], ["logits"], keepdims=1),
    ]
    graph = helper.make_graph(
        nodes,
        "counts",
        [helper.make_tensor_value_info(n, TensorProto.INT64, ["batch", "tokens"]) for n in names],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1])],
        [numpy_helper.from_array(np.array(v, np.int64), n) for n, v in numbers.items()],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10),
        folder / "model.onnx",
    )
    return folder


def rate(asked: dict[str, Any]) -> Any:
    """Score a text by its length, in the form that is asked in, listed backwards."""
    if "documents" in asked:
        texts = enumerate(asked["documents"])
        return {"results": [{"index": i, "relevance_score": len(t)} for i, t in texts][::-1]}
    return [{"index": i, "score": len(t)} for i, t in enumerate(asked["texts"])][::-1]


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with serving(rate) as server:
        yield server


async def test_a_cross_encoder_reads_both_texts(tmp_path: Path) -> None:
    reranker = OnnxReranker(cross_encoder(tmp_path))
    assert await reranker.scores("taint which", TEXTS) == [0, 3, 1]
    assert await reranker.scores("word", TEXTS) == [1, 0, 0]


@pytest.mark.parametrize("model", ["rerank-1", ""])
async def test_both_forms_of_endpoint(endpoint: Endpoint, model: str) -> None:
    reranker = HttpReranker(endpoint.url, model, api_key="secret")
    assert await reranker.scores("taint", TEXTS) == [8, 17, 7]
    (path, key, asked), *_ = endpoint.seen
    assert (path, key, asked["query"]) == ("/v1/rerank", "Bearer secret", "taint")
    assert asked.get("model", "") == model


async def test_failures_are_told_apart(endpoint: Endpoint) -> None:
    reranker = HttpReranker(endpoint.url, timeout_s=0.3)
    endpoint.answer = lambda _: [{"index": 0, "score": 1}]
    with pytest.raises(RerankerError, match="no score for each of 3"):
        await reranker.scores("taint", TEXTS)
    endpoint.failures = [429]
    with pytest.raises(RerankerError, match="HTTP 429"):
        await reranker.scores("taint", TEXTS)
    endpoint.wait_s = 0.6
    with pytest.raises(RerankerError, match=r"nothing within 0\.3 s"):
        await reranker.scores("taint", TEXTS)
    with pytest.raises(RerankerError, match="did not answer"):
        await HttpReranker("http://127.0.0.1:9/v1").scores("taint", TEXTS)


def test_what_the_settings_name_is_opened(tmp_path: Path) -> None:
    assert open_reranker(RagSettings()) is None
    assert isinstance(open_reranker(RagSettings(reranker_url="http://x/v1")), HttpReranker)
    with pytest.raises(RerankerError, match="RAG_RERANKER_DIR"):
        open_reranker(RagSettings(reranker_dir=tmp_path))
    with pytest.raises(ValidationError, match="not both"):
        RagSettings(reranker_dir=tmp_path, reranker_url="http://x")


@pytest.fixture
async def store(tmp_path: Path) -> tuple[Store, RagSettings]:
    settings = RagSettings(store_uri=str(tmp_path / "store"), reranker_dir=tmp_path, top_k=2)
    opened = await Store.open(settings)
    ingestor = Ingestor(opened, Embedders([FakeEmbedder()]), settings)
    for i, text in enumerate(["Which pools taint.", "taint taint taint word.", "The taint."]):
        await ingestor.ingest(f"{i}.md", text.encode())
    await ingestor.aclose()
    return opened, settings


async def test_the_reranker_has_the_last_word(
    store: tuple[Store, RagSettings], tmp_path: Path
) -> None:
    retriever = Retriever(*_with(store), OnnxReranker(cross_encoder(tmp_path)))
    found = await retriever.search(SearchQuery("taint which pools"))
    assert [(p.source, p.relevance) for p in found] == [("1.md", 3), ("0.md", 1)]


async def test_without_its_reranker_an_answer_comes_and_says_so(
    store: tuple[Store, RagSettings], tmp_path: Path
) -> None:
    broken = Retriever(*_with(store), HttpReranker("http://127.0.0.1:9/v1"))
    fused = await Retriever(*_with(store)).search(SearchQuery("taint which pools"))
    assert await broken.search(SearchQuery("taint which pools")) == fused
    working = Retriever(*_with(store), OnnxReranker(cross_encoder(tmp_path)))
    assert await _unaided(broken, store[1]) == ["rerank"]
    assert await _unaided(working, store[1]) == []


def _with(store: tuple[Store, RagSettings]) -> tuple[Store, Embedders, RagSettings]:
    return store[0], Embedders([FakeEmbedder()]), store[1]


async def _unaided(retriever: Retriever, settings: RagSettings) -> Any:
    client = LLMClient("http://mock", transport=StreamingASGITransport(MockLLM()))
    graph = RagGraph(retriever.search, client, settings)
    events = [event async for event in graph.answer(Question("taint which pools"))]
    assert isinstance(events[-1], Answered)
    return events[-1].metadata["unaided"]
