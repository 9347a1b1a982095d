"""Keeping a table quick: compaction, indices, and files that nobody refers to any more."""

from __future__ import annotations

from datetime import timedelta

import lancedb
from lancedb.index import IvfSq

from rag_graph.retrieval.schema import VACANT

VECTOR_INDEX = "vector_idx_"
"""Beginning of the index's name; its number of partitions follows."""
ROWS_PER_PARTITION = 4096
"""Half of what LanceDB aims at. Partitions under a quarter of that it joins whenever it takes in
new rows: with one partition for the square root of the rows, 1,000 became 31 that way."""
REBUILT_AT = 4
"""The index is made anew once the table should have this many times its partitions, so that every
row is indexed at most a third more often than once."""


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
    if rows >= index_rows:
        await _index_vectors(table, rows)
    await compact(table, keep_s)


async def _index_vectors(table: lancedb.AsyncTable, rows: int) -> None:
    """Make the approximate index, or make it anew if the table has outgrown its partitions."""
    names = {index.name for index in await table.list_indices()}
    old = [name for name in names if name.startswith(VECTOR_INDEX)]
    most = max((int(name.removeprefix(VECTOR_INDEX)) for name in old), default=0)
    wanted = max(1, rows // ROWS_PER_PARTITION)
    if wanted < REBUILT_AT * most:
        return
    index = IvfSq(distance_type="cosine", num_partitions=wanted)
    # LanceDB takes IvfSq; its annotation forgets it.
    await table.create_index("vector", config=index, name=f"{VECTOR_INDEX}{wanted}")  # type: ignore[arg-type]
    for name in old:
        await table.drop_index(name)


async def compact(table: lancedb.AsyncTable, keep_s: float) -> None:
    """Merge small files, index new rows, remove old versions and what a killed writer left."""
    await table.optimize(cleanup_older_than=timedelta(seconds=keep_s), delete_unverified=True)
