"""A process that does a store's jobs, to be killed: `python -m tests.support.job_runner FOLDER`.

What it embeds takes a moment, so that a kill finds it amid a document. It ends when no job is left.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from rag_graph.ingest.jobs import Jobs
from rag_graph.retrieval.embedder import Embedders
from rag_graph.retrieval.store import Store
from rag_graph.retrieval.vectors import Vectors
from tests.support.rag import FakeEmbedder
from tests.support.rewriter import settings

TENANT = "t"
MOMENT_S = 0.03


class _Slow(FakeEmbedder):
    async def embed(self, texts: Sequence[str]) -> Vectors:
        await asyncio.sleep(MOMENT_S)
        return await super().embed(texts)


async def opened(folder: Path) -> Jobs:
    """Return the jobs of the store in `folder`, going on."""
    used = settings(folder)
    jobs = Jobs(await Store.open(used), Embedders([_Slow()]), used)
    await jobs.start()
    return jobs


async def main(folder: Path) -> None:
    """Do what there is to do."""
    jobs = await opened(folder)
    for job in jobs.of(TENANT):
        await jobs.ended(TENANT, job.id, 600)
    await jobs.aclose()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
