"""A process that replaces documents for ever, to be killed: `python -m tests.support.rewriter`.

Version `v` of a document has `1 + v % MOST` chunks, each of which says document, version, part and
how many parts there are: a reader can tell a torn or doubled document from a whole one.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from rag_graph.ingest.pipeline import Ingestor
from rag_graph.retrieval.embedder import Embedders
from rag_graph.retrieval.store import Store
from rag_graph.settings import RagSettings
from tests.support.rag import FakeEmbedder

DOCUMENTS = ["one.md", "two.md", "three.md"]
MOST = 5


def content(name: str, version: int) -> bytes:
    """Return the document's Markdown, one heading a chunk."""
    parts = 1 + version % MOST
    lines = [f"# H{i}\n\npart {name} {version} {i} {parts}" for i in range(parts)]
    return "\n\n".join(lines).encode()


def settings(folder: Path) -> RagSettings:
    """Return settings that compact often."""
    return RagSettings(
        store_uri=str(folder), cache_dir=folder, maintain_every=3, keep_versions_s=60
    )


async def rewrite(folder: Path, first: int, last: int | None) -> None:
    """Write versions `first` to `last`, or without end, of every document."""
    used = settings(folder)
    ingestor = Ingestor(await Store.open(used), Embedders([FakeEmbedder()]), used)
    version = first
    while last is None or version <= last:
        for name in DOCUMENTS:
            await ingestor.ingest(name, content(name, version))
        version += 1
    await ingestor.aclose()


if __name__ == "__main__":
    asyncio.run(rewrite(Path(sys.argv[1]), int(sys.argv[2]), None))
