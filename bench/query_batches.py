"""CPU time of embedding a query, alone and in batches: is `@serve.batch` worth its wait?

    python -m bench.query_batches

CPU time, not wall time, of the bundled model with one thread, over questions of 4 to 24 words. One
line of JSON for each batch size.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Sequence

from rag_graph.retrieval.embedder import Embedder, open_embedder
from rag_graph.settings import RagSettings

TEXT = "which taint do the pools carry and where are model weights kept when a node is gone"
QUERIES = 192


def questions(rng: random.Random) -> list[str]:
    """Return questions of different lengths."""
    return [" ".join(rng.choices(TEXT.split(), k=rng.randint(4, 24))) for _ in range(QUERIES)]


async def cost_us(embedder: Embedder, texts: Sequence[str], size: int) -> float:
    """Return the CPU microseconds of one query in batches of `size`."""
    begin = time.process_time()
    for start in range(0, len(texts), size):
        await embedder.embed(texts[start : start + size])
    return (time.process_time() - begin) / len(texts) * 1e6


async def main() -> None:
    """Measure five rounds, interleaved; print the medians."""
    embedder = await open_embedder(RagSettings())
    texts, sizes = questions(random.Random(1)), (1, 2, 4, 8, 16)
    await cost_us(embedder, texts, 4)
    rounds = [[await cost_us(embedder, texts, size) for size in sizes] for _ in range(5)]
    for index, size in enumerate(sizes):
        costs = sorted(row[index] for row in rounds)
        line = {
            "batch": size,
            "cpu_us": round(costs[2]),
            "range": [round(costs[0]), round(costs[-1])],
        }
        print(json.dumps(line))


if __name__ == "__main__":
    asyncio.run(main())
