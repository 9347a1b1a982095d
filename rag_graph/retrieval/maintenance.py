"""Keeping a table quick: compaction, indices, and files that nobody refers to any more."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import lancedb
import numpy as np
import numpy.typing as npt
from lancedb.index import IvfSq

from rag_graph.retrieval.schema import VACANT

VECTOR_INDEX = "vector_idx"
ROWS_PER_PARTITION = 6144
"""Three quarters of what LanceDB aims at: partitions under a quarter of its aim it joins when it
takes in new rows (1,000 for a million rows became 31), and recall falls (docs/experiments.md)."""
BITMAP_ROWS = 5_000
"""Lance keeps the numbers of more deleted rows of a fragment than these in a bitmap."""
LARGE_FRAGMENT = 50_000
"""Rows. Those of a smaller fragment are counted soon enough."""
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
        await _rewrite_some(table)
        index = IvfSq(distance_type="cosine", num_partitions=max(1, rows // ROWS_PER_PARTITION))
        # LanceDB takes IvfSq; its annotation forgets it.
        await table.create_index("vector", config=index, name=VECTOR_INDEX, replace=True)  # type: ignore[arg-type]
    await compact(table, keep_s)


async def _rewrite_some(table: lancedb.AsyncTable) -> None:
    """Write some rows of each large fragment with few deleted ones anew, as they are.

    To make the index, LanceDB 0.40 samples rows by their number, and for each it counts the deleted
    ones before it. Up to BITMAP_ROWS of them it counts row by row, for a million rows longer than
    four minutes; more of them it keeps in a bitmap, and counts in no time.
    """
    found = await table.query().with_row_id().select(["_rowid"]).to_arrow()
    for row_ids in _sparse(found["_rowid"].to_numpy()):
        rows = await table.take_row_ids(row_ids[: BITMAP_ROWS + 1].tolist()).to_arrow()
        merge = table.merge_insert("slot").when_matched_update_all()
        await merge.execute(rows)


def _sparse(row_ids: npt.NDArray[np.uint64]) -> Iterator[npt.NDArray[np.uint64]]:
    """Yield the row ids of each large fragment that has deleted rows, but few.

    A row id is the fragment's number and, in the lower half, the row's within it.
    """
    ordered = np.sort(row_ids)
    fragments, starts, counts = np.unique(
        ordered >> np.uint64(32), return_index=True, return_counts=True
    )
    for fragment, start, count in zip(fragments, starts, counts, strict=True):
        there = ordered[start : start + count]
        deleted = int(there[-1] - (fragment << np.uint64(32))) + 1 - count
        if count >= LARGE_FRAGMENT and 0 < deleted <= BITMAP_ROWS:
            yield there


async def _is_due(table: lancedb.AsyncTable) -> bool:
    """Whether dense search needs an approximate index, or a new one."""
    found = [index for index in await table.list_indices() if index.name == VECTOR_INDEX]
    return not found or (found[0].num_segments or 0) >= MAX_SEGMENTS


async def compact(table: lancedb.AsyncTable, keep_s: float) -> None:
    """Merge small files, index new rows, remove old versions and what a killed writer left."""
    await table.optimize(cleanup_older_than=timedelta(seconds=keep_s), delete_unverified=True)
