"""Small collections held in memory: their chunks as they are at one version of the table.

Every question that LanceDB is asked costs about 2 ms of CPU, however small the table. While a
table stays as it is, a small one is read once and then searched here, exactly. Its version is
looked up for each search, so what was written is found at once, as it is without this.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import lancedb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rag_graph.retrieval import schema
from rag_graph.retrieval.shared_lookup import SharedLookup
from rag_graph.retrieval.vectors import Vectors

Row = dict[str, Any]
Ranking = list[tuple[int, float]]
"""Row ids with what ranks them, best first."""

SEARCHES_FIRST = 2
"""Searches of one version that go to LanceDB. The next one reads all of it, which costs about as
much as one of them: a table that changes all the time is not read again and again."""


class Resident:
    """The chunks of a table at one version."""

    def __init__(self, version: int, chunks: pa.Table) -> None:
        """Hold `chunks`, of `SEARCH_COLUMNS`, `vector` and `_rowid`, none of them vacant."""
        self.version = version
        dimension = chunks.schema.field("vector").type.list_size
        vectors = chunks["vector"].combine_chunks().flatten().to_numpy().reshape(-1, dimension)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        self._vectors = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
        self._row_ids = chunks["_rowid"].to_numpy()
        self._places = {row_id: i for i, row_id in enumerate(self._row_ids.tolist())}
        self._rows = chunks.select(schema.SEARCH_COLUMNS).combine_chunks()

    @property
    def nbytes(self) -> int:
        """Bytes that the vectors and the text take."""
        return int(self._vectors.nbytes) + int(self._rows.nbytes)

    def dense(self, vector: Vectors, limit: int, filters: Mapping[str, str]) -> Ranking:
        """Return the chunks nearest to `vector` with their cosine distances, best first."""
        cosines = self._vectors @ (vector / max(float(np.linalg.norm(vector)), 1e-30))
        places = np.flatnonzero(self._mask(filters)) if filters else np.arange(len(cosines))
        if len(places) > limit:
            nearest = np.argpartition(-cosines[places], limit - 1)[:limit]
            places = places[nearest]
        places = places[np.argsort(-cosines[places], kind="stable")]
        distances = (1 - cosines[places]).tolist()
        return list(zip(self._row_ids[places].tolist(), distances, strict=True))

    def has(self, row_ids: Iterable[int]) -> bool:
        """Whether all of these rows are of this version."""
        return all(row_id in self._places for row_id in row_ids)

    def rows(self, row_ids: Sequence[int]) -> dict[int, Row]:
        """Return the rows of a ranking; one that is not of this version is left out."""
        known = [row_id for row_id in row_ids if row_id in self._places]
        found = self._rows.take(pa.array([self._places[row_id] for row_id in known], pa.int64()))
        return dict(zip(known, found.to_pylist(), strict=True))

    def _mask(self, filters: Mapping[str, str]) -> npt.NDArray[np.bool_]:
        equal = [pc.equal(self._rows[name], value) for name, value in filters.items()]
        mask: npt.NDArray[np.bool_] = pc.fill_null(reduce(pc.and_, equal), False).to_numpy()
        return mask


@dataclass
class _Seen:
    """A table that is searched."""

    look_up_version: SharedLookup[int]
    version: int = -1
    """Of the table, when it was last searched."""
    searches: int = 0
    """Of that version."""
    resident: Resident | None = None
    large: bool = False
    """It did not fit once, and is not looked at again."""


class Residents:
    """The tables held in memory: those searched latest, as many as `budget` bytes hold."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._seen: OrderedDict[str, _Seen] = OrderedDict()

    async def of(self, chunks: lancedb.AsyncTable, dimension: int) -> Resident | None:
        """Return a `chunks` table as it is now, or None where it is better searched in place."""
        seen = self._seen.get(chunks.name)
        if seen is None:
            seen = self._seen[chunks.name] = _Seen(SharedLookup(chunks.version))
        if seen.large:
            return None
        self._seen.move_to_end(chunks.name)
        version = await seen.look_up_version()
        if seen.version != version:
            seen.version, seen.searches, seen.resident = version, 0, None
        seen.searches += 1
        if seen.searches == SEARCHES_FIRST + 1:  # of several at once, one reads it
            await self._read(chunks, dimension, seen)
        resident = seen.resident
        return resident if resident is not None and resident.version == version else None

    async def _read(self, chunks: lancedb.AsyncTable, dimension: int, seen: _Seen) -> None:
        """Hold the table, unless it is too large or changes meanwhile."""
        version = seen.version
        vectors = await chunks.count_rows() * dimension * np.dtype(np.float32).itemsize
        seen.large = vectors > self._budget // 2
        if seen.large:
            return
        query = chunks.query().where(f"NOT ({schema.VACANT})").with_row_id()
        found = await query.select([*schema.SEARCH_COLUMNS, "vector"]).to_arrow()
        if await chunks.version() == version:
            seen.resident = await asyncio.to_thread(Resident, version, found)
            seen.large = seen.resident.nbytes > self._budget
            self._make_room()

    def _make_room(self) -> None:
        """Let go of those that were searched longest ago."""
        used = 0
        for seen in reversed(self._seen.values()):
            used += seen.resident.nbytes if seen.resident else 0
            if used > self._budget:
                seen.resident = None
