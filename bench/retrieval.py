"""Figures of `rag_graph`: the graph's own cost, a small search's, and a PDF's memory. Prints JSON.

    python -m bench.retrieval graph | search | pdf

CPU times are the process's own. Search at size is measured by `bench.store`, embedding by
`bench.embedding`.
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
from typing import Any

from bench.instant import Instant
from rag_graph.graph import RagGraph
from rag_graph.ingest.pipeline import Ingestor
from rag_graph.retrieval.retriever import Retriever
from rag_graph.settings import RagSettings
from rag_graph.state import Passage, Question, SearchQuery
from tests.support.rag import passage, pdf

WORDS = "retrieval of passages from large collections needs an index and a model that embeds text"
QUERY = "Which taint do the GPU node pools carry?"


def texts(count: int, length: int) -> list[str]:
    """Return `count` texts of about `length` words, all different."""
    dice, words = random.Random(1), WORDS.split()
    return [" ".join(dice.choices(words, k=length)) + f" {i}" for i in range(count)]


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


async def small_search(_arguments: argparse.Namespace) -> dict[str, Any]:
    """CPU of one search of small collections, embedding included: in LanceDB, and held in memory.

    Both take turns; eight searches are under way at a time, as under load.
    """
    figures: dict[str, Any] = {}
    for documents in (1, 50, 1000):
        with tempfile.TemporaryDirectory() as folder:
            settings = RagSettings(store_uri=folder)
            ingestor = await Ingestor.open(settings)
            contents = enumerate(texts(documents, 140))
            await asyncio.gather(*(ingestor.ingest(f"{i}.md", c.encode()) for i, c in contents))
            await ingestor.aclose()
            ways = {
                "lancedb": await Retriever.open(settings.model_copy(update={"resident_bytes": 0})),
                "memory": await Retriever.open(settings),
            }
            rounds = [{name: await _cpu(way) for name, way in ways.items()} for _ in range(4)]
            figures[f"{documents}_chunks_cpu_ms"] = {
                name: statistics.median(one[name] for one in rounds[1:]) for name in ways
            }
    return figures


async def _cpu(retriever: Retriever) -> float:
    """Return the milliseconds of CPU that a search takes."""
    begin = time.process_time()
    for _ in range(20):
        await asyncio.gather(*(retriever.search(SearchQuery(QUERY)) for _ in range(8)))
    return (time.process_time() - begin) / 160 * 1e3


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


BENCHES = {"graph": graph, "search": small_search, "pdf": pdf_memory}


def main() -> None:
    """Run one bench and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bench", choices=BENCHES)
    arguments = parser.parse_args()
    print(json.dumps(asyncio.run(BENCHES[arguments.bench](arguments)), indent=2))


if __name__ == "__main__":
    main()
