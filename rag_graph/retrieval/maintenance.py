"""Keeping a table quick: compaction, indices, and files that nobody refers to any more."""

from __future__ import annotations

from datetime import timedelta

import lancedb
from lancedb.index import IvfSq

from rag_graph.retrieval.schema import VACANT

VECTOR_INDEX = "vector_idx"
ROWS_PER_PARTITION = 8192
"""What LanceDB aims at. Partitions under a quarter of that it joins when it takes in new rows:
1,000 for a million rows became 31, and recall falls (docs/experiments.md)."""
MAX_SEGMENTS = 32
"""Each time that new rows are indexed adds a segment, which costs every search 0.3 ms; the index
is made anew when it has this many."""


async def maintain_chunks(table: lancedb.AsyncTable, index_rows: int, keep_s: float) -> None:
    """Delete vacant slots, merge small files, bring the indices up to date.

    Args:
        table: a `chunks` table. The caller holds the collection's writer lock, so that the files
            of no transaction but a killed one's are unaccounted for.
        index_rows: from this many rows on, dense search gets an approximate index.
        keep_s: seconds for which a version that a reader may still be reading is kept.
    """
    if await table.count_rows(VACANT):
        await table.delete(VACANT)
    rows = await table.count_rows()
    if rows >= index_rows and await _is_due(table):
        index = IvfSq(distance_type="cosine", num_partitions=max(1, rows // ROWS_PER_PARTITION))
        # LanceDB takes IvfSq; its annotation forgets it.
        await table.create_index("vector", config=index, name=VECTOR_INDEX, replace=True)  # type: ignore[arg-type]
    await compact(table, keep_s)


async def _is_due(table: lancedb.AsyncTable) -> bool:
    """Whether dense search needs an approximate index, or a new one."""
    found = [index for index in await table.list_indices() if index.name == VECTOR_INDEX]
    return not found or (found[0].num_segments or 0) >= MAX_SEGMENTS


async def compact(table: lancedb.AsyncTable, keep_s: float) -> None:
    """Merge small files, index new rows, remove old versions and what a killed writer left."""
    await table.optimize(cleanup_older_than=timedelta(seconds=keep_s), delete_unverified=True)
