"""Hybrid search and replacement at size, without embedding. Prints JSON.

    python -m bench.store --chunks 1000000 [--folder DIR]

Chunks have 30 words drawn by Zipf's law and a vector of 384 elements near one of 2,000 centres; a
query has a vector near a centre and five words, drawn in two ways: by the same law, so that nearly
every query has words that stand in most chunks, or like the content words of a question, of which
none stands in more than one chunk in twenty. The collection is maintained as everybody's is, every
`RAG_MAINTAIN_EVERY` documents, by the writer. A folder is filled once and used again.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from rag_graph.retrieval import schema
from rag_graph.retrieval.collection import Collection
from rag_graph.retrieval.embedder import Embedders
from rag_graph.retrieval.retriever import Retriever
from rag_graph.retrieval.slots import Update
from rag_graph.retrieval.store import Store
from rag_graph.retrieval.vectors import Vectors
from rag_graph.settings import RagSettings
from rag_graph.state import SearchQuery
from tests.support.rag import FakeEmbedder

DIMENSION = 384
CENTRES = 2000
VOCABULARY = 20_000
ZIPF = 1.3
COMMON_WORDS = 60
"""Words 1 to 60 stand in more than one chunk in twenty each."""
BATCH = 50_000
SEARCHES = 200
RECALL_QUERIES = 100
NAME = "big"


class Queries(FakeEmbedder):
    """Embeds "number words…" as the vector of that number, in no time."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.dimension = DIMENSION
        dice = np.random.default_rng(9)
        self.vectors = _near(centres(), dice.integers(0, CENTRES, count), dice)

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors."""
        return self.vectors[[int(text.split()[0]) for text in texts]]


@functools.cache
def centres() -> Vectors:
    """Return what the vectors are near."""
    return np.random.default_rng(0).normal(size=(CENTRES, DIMENSION)).astype(np.float32)


def _near(middles: Vectors, chosen: Any, dice: np.random.Generator) -> Vectors:
    vectors = middles[chosen] + dice.normal(size=(len(chosen), DIMENSION)).astype(np.float32)
    unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def zipf_words(dice: np.random.Generator) -> str:
    """Return five words as they occur, the commonest included."""
    return " ".join(f"w{n}" for n in dice.zipf(ZIPF, size=5) % VOCABULARY)


def content_words(dice: np.random.Generator) -> str:
    """Return five words as they occur, less the commonest."""
    drawn = dice.zipf(ZIPF, size=1000) % VOCABULARY
    return " ".join(f"w{n}" for n in drawn[drawn > COMMON_WORDS][:5])


async def fill(collection: Collection, count: int) -> None:
    """Add the chunks, ten to a document."""
    dice, middles = np.random.default_rng(1), centres()
    vocabulary = np.array([f"w{i}" for i in range(VOCABULARY)])
    for start in range(0, count, BATCH):
        size = min(BATCH, count - start)
        vectors = _near(middles, dice.integers(0, CENTRES, size), dice)
        chosen = vocabulary[dice.zipf(ZIPF, size=(size, 30)) % VOCABULARY]
        names = [f"d{(start + i) // 10}:{i % 10}" for i in range(size)]
        columns = {
            "slot": pa.array(names),
            "document_id": pa.array([name.split(":")[0] for name in names]),
            "revision": pa.array(["r"] * size),
            "chunk_id": pa.array(names),
            "title": pa.array([f"Document {(start + i) // 10}" for i in range(size)]),
            "source": pa.array([f"folder/{(start + i) // 10}.md" for i in range(size)]),
            "content": pa.array([" ".join(row) for row in chosen]),
            "context_length": pa.array(dice.integers(0, 40, size), pa.int32()),
            "page": pa.nulls(size, pa.int32()),
            "heading": pa.nulls(size, pa.string()),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIMENSION),
        }
        await collection._chunks.add(pa.table(columns, schema=schema.chunks(DIMENSION)))


async def replace(collection: Collection, number: int) -> float:
    """Return the milliseconds that replacing a document of 10 chunks takes."""
    dice = np.random.default_rng(number)
    key = f"d{number * 7}"
    rows = [
        {"document_id": key, "revision": str(number), "chunk_id": f"{key}{i}{number}"}
        | {"content": f"w{i} w{number} w77", "context_length": 0, "title": "t", "source": "s"}
        for i in range(10)
    ]
    document: dict[str, Any] = {"document_id": key, "source": "s", "title": "t", "chunks": 10}
    document |= {"content_hash": str(number), "bytes": 1, "ingested_at": datetime.now(UTC)}
    vectors = _near(centres(), dice.integers(0, CENTRES, 10), dice)
    begin = time.perf_counter()
    await collection.replace([Update(document, rows, vectors)])
    return (time.perf_counter() - begin) * 1e3


async def searches(
    retriever: Retriever, collection: Collection, words: Callable[[np.random.Generator], str]
) -> dict[str, Any]:
    """Time searches alone, a hundred at once, and beside a writer."""
    dice = np.random.default_rng(3)
    texts = [f"{i} {words(dice)}" for i in range(SEARCHES)]

    async def search(text: str) -> float:
        begin = time.perf_counter()
        await retriever.search(SearchQuery(text, NAME, top_k=10))
        return (time.perf_counter() - begin) * 1e3

    for text in texts[:20]:
        await search(text)
    alone = [await search(text) for text in texts]
    begin = time.perf_counter()
    await asyncio.gather(*(search(text) for text in texts[:100]))
    together = (time.perf_counter() - begin) * 1e3
    beside, written = await _beside_a_writer(collection, lambda: _all(search, texts))
    return {
        "alone_ms": _spread(alone),
        "beside_writer_ms": _spread(beside),
        "written_beside_ms": _spread(written),
        "concurrency_100_ratio": sum(alone[:100]) / together,
    }


async def _all(search: Callable[[str], Awaitable[float]], texts: Sequence[str]) -> list[float]:
    return [await search(text) for text in texts]


async def _beside_a_writer(
    collection: Collection, work: Callable[[], Awaitable[list[float]]]
) -> tuple[list[float], list[float]]:
    """Return what `work` returns while documents are replaced, and how long each of those took."""
    written: list[float] = []
    stop = asyncio.Event()

    async def write() -> None:
        while not stop.is_set():
            written.append(await replace(collection, 1000 + len(written)))
            await asyncio.sleep(WRITER_PAUSE_S)

    writer = asyncio.create_task(write())
    done = await work()
    stop.set()
    await writer
    return done, written


WRITER_PAUSE_S = 0.1
"""Between two documents that the writer beside the searches replaces."""


async def recall(collection: Collection, queries: Vectors, limit: int) -> float:
    """Return the share of the ten nearest chunks that dense search finds among its first ten."""
    truth = await _nearest(collection, queries)
    hits = 0
    for query, nearest in zip(queries, truth, strict=True):
        found = await collection.rows([i for i, _ in (await collection.dense(query, limit))[:10]])
        hits += len({row["chunk_id"] for row in found.values()} & nearest)
    return hits / (10 * len(queries))


async def _nearest(collection: Collection, queries: Vectors) -> list[set[str]]:
    """Return the ids of the ten nearest chunks of each query, by brute force."""
    best = np.full((len(queries), 10), -np.inf, np.float32)
    slots = np.full((len(queries), 10), "", object)
    reader = await collection._chunks.query().select(["chunk_id", "vector"]).to_batches()
    async for batch in reader:
        vectors = batch["vector"].flatten().to_numpy().reshape(-1, DIMENSION)
        cosines = queries @ (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).T
        both = np.hstack([best, cosines])
        names = np.hstack([slots, np.tile(batch["chunk_id"].to_numpy(False), (len(queries), 1))])
        order = np.argsort(-both, axis=1)[:, :10]
        best, slots = np.take_along_axis(both, order, 1), np.take_along_axis(names, order, 1)
    return [set(row) for row in slots]


def _spread(times: Sequence[float]) -> dict[str, float]:
    p50, p99 = statistics.median(times), float(np.quantile(times, 0.99))
    return {"p50": round(p50, 2), "p99": round(p99, 2)}


async def run(folder: Path, chunks: int) -> dict[str, Any]:
    """Fill the folder if it is new, and measure."""
    settings = RagSettings(store_uri=str(folder))
    embedder = Queries(SEARCHES)
    store = await Store.open(settings)
    collection = await store.collection_or_new(NAME, embedder, 200)
    begin = time.perf_counter()
    if not await collection._chunks.count_rows():
        await fill(collection, chunks)
    filled = time.perf_counter()
    await collection.maintain()
    indexed = time.perf_counter()
    retriever = Retriever(store, Embedders([embedder]), settings)
    figures: dict[str, Any] = {
        "chunks": await collection._chunks.count_rows(),
        "fill_s": filled - begin,
        "index_s": indexed - filled,
        "recall_at_10": await recall(
            collection, embedder.vectors[:RECALL_QUERIES], settings.candidates
        ),
    }
    for words in (content_words, zipf_words):
        figures[words.__name__] = await searches(retriever, collection, words)
        await collection.maintain()
    many = settings.maintain_every - 1
    figures["replace_ms"] = _spread([await replace(collection, i) for i in range(many)][3:])
    begin = time.perf_counter()
    await collection.maintain()
    figures["maintain_s"] = time.perf_counter() - begin
    return figures


def main() -> None:
    """Run and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="kept and used again; default: a scratch one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.folder or Path(scratch)
        print(json.dumps(asyncio.run(run(folder, given.chunks)), indent=2))


if __name__ == "__main__":
    main()
