"""Figures of `rag_graph`: the graph's own cost, PDF memory, search at size. Each prints JSON.

    python -m bench.retrieval graph | pdf | store --chunks 1000000

CPU times are the process's own. Embedding is measured by `bench.embedding`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from contracts.openai import ChatCompletionRequest, Model
from rag_graph.graph import RagGraph
from rag_graph.ingest.pipeline import Ingestor
from rag_graph.llm.client import End, LLMClient, Output, Piece
from rag_graph.retrieval import schema
from rag_graph.retrieval.collection import Collection
from rag_graph.retrieval.embedder import Vectors
from rag_graph.retrieval.retriever import combine
from rag_graph.retrieval.store import Store
from rag_graph.settings import RagSettings
from rag_graph.state import Passage, Question, SearchQuery
from tests.support.rag import FakeEmbedder, passage, pdf

WORDS = "retrieval of passages from large collections needs an index and a model that embeds text"
QUERY = "Which taint do the GPU node pools carry?"
DIMENSION = 384
BATCH = 50_000


def texts(count: int, length: int) -> list[str]:
    """Return `count` texts of about `length` words, all different."""
    dice, words = random.Random(1), WORDS.split()
    return [" ".join(dice.choices(words, k=length)) + f" {i}" for i in range(count)]


class Instant(LLMClient):
    """An LLM that says `tokens` words at once, no sentence twice."""

    tokens = 1

    async def models(self) -> list[Model]:
        """Return one model."""
        return [Model(id="instant", created=0, owned_by="bench")]

    async def stream(
        self,
        request: ChatCompletionRequest,
        timeout_s: float,
        extra_headers: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[Output, None]:
        """Say the words."""
        for i in range(self.tokens):
            yield Piece(f" word{i % 97}" if i % 15 else f" in{i}.")
        yield End("stop", None, "instant")


async def graph(_arguments: argparse.Namespace) -> dict[str, Any]:
    """CPU of the graph alone: a model and a search that take no time."""
    found = [passage("Pools carry a taint. " * 20, i) for i in range(1, 6)]

    async def search(_: SearchQuery) -> list[Passage]:
        return found

    llm = Instant("http://instant")
    rag = RagGraph(search, llm, RagSettings())
    cost: dict[int, float] = {}
    for tokens in (1, 1, 2001):
        llm.tokens = tokens
        begin = time.process_time()
        for _ in range(50):
            async for _ in rag.answer(Question(QUERY)):
                pass
        cost[tokens] = (time.process_time() - begin) / 50
    return {
        "request_cpu_ms": cost[1] * 1e3,
        "token_cpu_us": (cost[2001] - cost[1]) / 2000 * 1e6,
    }


async def pdf_memory(_arguments: argparse.Namespace) -> dict[str, Any]:
    """Ingest a PDF of 1,000 pages with the real embedder; peak RSS of both processes."""
    document = pdf(*(" ".join(texts(1, 150)[0].split()[:150]) for _ in range(1000)))
    with tempfile.TemporaryDirectory() as folder:
        settings = RagSettings(store_uri=folder)
        ingestor = await Ingestor.open(settings)
        begin = time.perf_counter()
        report = await ingestor.ingest("a.pdf", document)
        seconds = time.perf_counter() - begin
        await ingestor.aclose()
    peak = {
        who: resource.getrusage(flag).ru_maxrss / 1024
        for who, flag in (("self", resource.RUSAGE_SELF), ("parser", resource.RUSAGE_CHILDREN))
    }
    return {"chunks": report.chunks, "seconds": seconds, "peak_rss_mib": peak}


async def store(arguments: argparse.Namespace) -> dict[str, Any]:
    """Search and replace beside `--chunks` synthetic chunks; embedding is not in the figures."""
    with tempfile.TemporaryDirectory() as folder:
        settings = RagSettings(store_uri=folder, cache_dir=Path(folder), maintain_every=10**9)
        embedder = FakeEmbedder()
        embedder.dimension = DIMENSION
        collection = await (await Store.open(settings)).collection_or_new("big", embedder, 200)
        begin = time.perf_counter()
        centres = await _fill(collection, arguments.chunks)
        filled = time.perf_counter()
        await collection.maintain()
        indexed = time.perf_counter()
        replace_ms = [await _replace(collection, i) for i in range(20)]
        figures = await _searches(collection, centres, settings)
    return {
        "chunks": arguments.chunks,
        "fill_s": filled - begin,
        "index_s": indexed - filled,
        "replace_ms": _spread(replace_ms[1:]),
        **figures,
    }


def _spread(times: Sequence[float]) -> dict[str, float]:
    return {"p50": statistics.median(times), "p99": float(np.quantile(times, 0.99))}


async def _fill(collection: Collection, count: int) -> Vectors:
    """Add rows with vectors around random centres. Return the centres."""
    dice = np.random.default_rng(0)
    centres: Vectors = dice.normal(size=(2000, DIMENSION)).astype(np.float32)
    vocabulary = np.array([f"w{i}" for i in range(20_000)])
    for start in range(0, count, BATCH):
        size = min(BATCH, count - start)
        vectors = centres[dice.integers(0, len(centres), size)]
        vectors = vectors + dice.normal(size=vectors.shape).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        chosen = vocabulary[dice.zipf(1.3, size=(size, 30)) % len(vocabulary)]
        names = [f"d{(start + i) // 10}:{i % 10}" for i in range(size)]
        texts_ = pa.array([" ".join(row) for row in chosen])
        columns = {
            "slot": pa.array(names),
            "document_id": pa.array([name.split(":")[0] for name in names]),
            "revision": pa.array(["r"] * size),
            "chunk_id": pa.array(names),
            "title": pa.array(["t"] * size),
            "source": pa.array(["s"] * size),
            "content": texts_,
            "context_length": pa.array([0] * size, pa.int32()),
            "page": pa.nulls(size, pa.int32()),
            "heading": pa.nulls(size, pa.string()),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIMENSION),
        }
        await collection._chunks.add(pa.table(columns, schema=schema.chunks(DIMENSION)))
    return centres


async def _replace(collection: Collection, number: int) -> float:
    """Return the milliseconds that replacing a document of 10 chunks takes."""
    dice = np.random.default_rng(number)
    key = f"d{number * 7}"
    rows = [
        {"document_id": key, "revision": str(number), "chunk_id": f"{key}{i}{number}"}
        | {"content": f"w{i} w{number} w77", "context_length": 0, "title": "t", "source": "s"}
        for i in range(10)
    ]
    document: dict[str, Any] = {
        "document_id": key,
        "source": "s",
        "title": "t",
        "content_hash": str(number),
    }
    document |= {"chunks": 10, "bytes": 1, "ingested_at": datetime.now(UTC)}
    vectors = dice.normal(size=(10, DIMENSION)).astype(np.float32)
    begin = time.perf_counter()
    await collection.replace(document, rows, vectors)
    return (time.perf_counter() - begin) * 1e3


async def _searches(
    collection: Collection, centres: Vectors, settings: RagSettings
) -> dict[str, Any]:
    """Time hybrid searches beside a writer, and 100 at once; compare dense with brute force."""
    dice = np.random.default_rng(9)
    queries = centres[dice.integers(0, len(centres), 200)]
    queries = queries + dice.normal(size=queries.shape).astype(np.float32)

    async def search(i: int) -> float:
        begin = time.perf_counter()
        words = " ".join(f"w{n}" for n in dice.zipf(1.3, size=5) % 20_000)
        rankings = await asyncio.gather(
            collection.dense(queries[i], settings.candidates),
            collection.bm25(words, settings.candidates),
        )
        combine(rankings, settings.rank_constant)
        return (time.perf_counter() - begin) * 1e3

    async def write() -> None:
        number = 100
        while True:
            await _replace(collection, number)
            number += 1

    for i in range(10):
        await search(i)
    begin = time.perf_counter()
    alone = [await search(i) for i in range(100)]
    sequential = time.perf_counter() - begin
    begin = time.perf_counter()
    await asyncio.gather(*(search(i) for i in range(100)))
    together = time.perf_counter() - begin
    writer = asyncio.create_task(write())
    beside = [await search(i) for i in range(100)]
    writer.cancel()
    return {
        "search_ms": _spread(alone),
        "search_ms_beside_writer": _spread(beside),
        "concurrency_100_ratio": sequential / together,
        "recall_at_10": await _recall(collection, queries[:50]),
    }


async def _recall(collection: Collection, queries: Vectors) -> float:
    hits = 0
    for query in queries:
        exact = collection._chunks.query().nearest_to(query).distance_type("cosine")
        truth = await exact.bypass_vector_index().select(["slot", "_distance"]).limit(10).to_arrow()
        found = {row["slot"] for row in await collection.dense(query, 10)}
        hits += len(found & set(truth["slot"].to_pylist()))
    return hits / (10 * len(queries))


BENCHES = {"graph": graph, "pdf": pdf_memory, "store": store}


def main() -> None:
    """Run one bench and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bench", choices=BENCHES)
    parser.add_argument("--chunks", type=int, default=100_000)
    arguments = parser.parse_args()
    print(json.dumps(asyncio.run(BENCHES[arguments.bench](arguments)), indent=2))


if __name__ == "__main__":
    main()
