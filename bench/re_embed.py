"""Changing a collection's embedder while it is searched: errors, recall, latency. JSON to stdout.

python -m bench.re_embed --documents 500
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rag_graph.errors import RagError
from rag_graph.ingest.migrate import migrate
from rag_graph.ingest.pipeline import Ingestor
from rag_graph.retrieval.embedder import Embedder, Embedders, open_embedder
from rag_graph.retrieval.retriever import Retriever
from rag_graph.retrieval.store import Store
from rag_graph.retrieval.vectors import Vectors
from rag_graph.settings import RagSettings
from rag_graph.state import SearchQuery

SEARCHERS = 2


class Mirrored:
    """The bundled model with its vectors turned round: as good, but of another space."""

    def __init__(self, model: Embedder) -> None:
        self._model = model
        self.name = "mirrored"
        self.dimension = model.dimension
        self.max_tokens = model.max_tokens
        self.count = model.count

    async def embed(self, texts: Any) -> Vectors:
        return -(await self._model.embed(texts))

    async def embed_query(self, text: str) -> Vectors:
        return -(await self._model.embed_query(text))


@dataclass
class Load:
    """Searches without a pause for documents whose names are the questions."""

    retriever: Retriever
    documents: int
    found: list[bool] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)

    async def run(self, until: Awaitable[Any]) -> dict[str, Any]:
        """Search until `until` is done; return the figures of that time."""
        self.found, self.errors, self.ms = [], [], []
        begun = time.perf_counter()
        task = asyncio.ensure_future(until)
        await asyncio.gather(*(self._search(task, i) for i in range(SEARCHERS)))
        await task
        return {
            "seconds": time.perf_counter() - begun,
            "searches": len(self.ms),
            "errors": len(self.errors),
            "recall_at_1": sum(self.found) / len(self.found),
            "p50_ms": float(np.quantile(self.ms, 0.5)),
            "p99_ms": float(np.quantile(self.ms, 0.99)),
        }

    async def _search(self, task: asyncio.Future[Any], number: int) -> None:
        while not task.done():
            number = (number + 7) % self.documents
            begun = time.perf_counter()
            try:
                passages = await self.retriever.search(SearchQuery(_text(number), top_k=1))
                self.found.append(passages[0].source == f"{number}.md")
            except RagError as error:
                self.errors.append(str(error))
            self.ms.append((time.perf_counter() - begun) * 1e3)


def _text(number: int) -> str:
    dice = np.random.default_rng(number)
    return " ".join(f"{'bcdfghjklm'[a]}{'aeiou'[b]}{'nprstvwxz'[c]}" for a, b, c in _parts(dice))


def _parts(dice: np.random.Generator) -> list[tuple[int, int, int]]:
    return [tuple(dice.integers(0, (10, 5, 9)).tolist()) for _ in range(30)]


async def run(documents: int) -> dict[str, Any]:
    """Re-embed and go back, under load."""
    with tempfile.TemporaryDirectory() as folder:
        settings = RagSettings(store_uri=folder)
        old = await open_embedder(settings)
        new = Mirrored(old)
        embedders = Embedders([old, new])
        store = await Store.open(settings)
        ingestor = Ingestor(store, embedders, settings)
        for i in range(documents):
            await ingestor.ingest(f"{i}.md", _text(i).encode())
        await ingestor.aclose()
        load = Load(Retriever(await Store.open(settings), embedders, settings), documents)
        return {
            "documents": documents,
            "before": await load.run(asyncio.sleep(5)),
            "re_embedding": await load.run(migrate(store, "default", new)),
            "after": await load.run(asyncio.sleep(5)),
            "rollback": await load.run(migrate(store, "default", old)),
            "back": await load.run(asyncio.sleep(5)),
        }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=500)
    print(json.dumps(asyncio.run(run(parser.parse_args().documents)), indent=1))


if __name__ == "__main__":
    main()
