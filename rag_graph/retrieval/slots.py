"""Documents as rows of a `chunks` table: each chunk in its slot, slots left behind vacant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from rag_graph.retrieval import schema
from rag_graph.retrieval.vectors import Vectors


@dataclass(frozen=True)
class Update:
    """The new state of one document."""

    document: Mapping[str, Any]
    """Its row in `documents`."""
    chunks: Sequence[Mapping[str, Any]]
    """Its rows in `chunks`, less slots and vectors, in reading order."""
    vectors: Vectors
    """float32 [len(chunks), dimension]."""

    @property
    def document_id(self) -> str:
        return str(self.document["document_id"])


def rows_of(updates: Iterable[Update], old: Mapping[str, set[str]], dimension: int) -> pa.Table:
    """Return the rows that put `updates` in place of what is in the slots `old`, by document.

    Raises:
        ValueError: vectors and chunks differ in number, or vectors are not of `dimension`.
    """
    tables = [_rows(update, old.get(update.document_id, set()), dimension) for update in updates]
    return pa.concat_tables(tables)


def _rows(update: Update, old: set[str], dimension: int) -> pa.Table:
    if update.vectors.shape != (len(update.chunks), dimension):
        raise ValueError(
            f"vectors of shape {update.vectors.shape} for {len(update.chunks)} chunks of "
            f"{dimension} dimensions"
        )
    document_id = update.document_id
    rows: list[dict[str, Any]] = [
        {**chunk, "slot": f"{document_id}:{i}"} for i, chunk in enumerate(update.chunks)
    ]
    left = sorted(old - {row["slot"] for row in rows})
    rows += [{"slot": slot, "document_id": document_id} for slot in left]
    columns = schema.chunks(dimension)
    plain = columns.remove(columns.get_field_index("vector"))
    table = pa.Table.from_pylist(rows, schema=plain)
    return table.append_column(columns.field("vector"), _vectors(update.vectors, len(left)))


def _vectors(vectors: Vectors, vacant: int) -> pa.Array:
    """Return the vectors as a column, followed by a null for each vacant slot."""
    count, dimension = vectors.shape
    flat = np.ascontiguousarray(vectors, np.float32).reshape(-1)
    column = pa.FixedSizeListArray.from_arrays(pa.array(flat), dimension)
    return column.take(pa.array([*range(count), *[None] * vacant], pa.int64()))
