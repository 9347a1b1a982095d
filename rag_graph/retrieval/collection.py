"""One version of one collection: its tables, searched and written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa

from rag_graph.retrieval import schema
from rag_graph.retrieval.boundary import store_errors
from rag_graph.retrieval.embedder import Vectors
from rag_graph.retrieval.locks import WriterLock
from rag_graph.retrieval.maintenance import compact, maintain_chunks
from rag_graph.settings import RagSettings

Row = dict[str, Any]
Ranking = list[tuple[int, float]]
"""Row ids with what ranks them, best first."""
REFINE = 2
"""The approximate index brings this many times the rows wanted; they are ranked again by their
exact vectors. It makes good what int8 vectors lose: recall@10 0.968 to 0.998 at 200,000 chunks."""


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """A row of the `collections` table."""

    name: str
    version: int
    embedder: str
    dimension: int
    chunk_tokens: int
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Document:
    """A row of the `documents` table, less its time."""

    document_id: str
    source: str
    title: str
    content_hash: str
    chunks: int
    bytes: int


class Collection:
    """Handles on the two tables of a collection's version."""

    def __init__(
        self,
        info: CollectionInfo,
        documents: lancedb.AsyncTable,
        chunks: lancedb.AsyncTable,
        settings: RagSettings,
    ) -> None:
        self.info = info
        self._documents = documents
        self._chunks = chunks
        self._settings = settings
        self._lock = WriterLock(settings.store_uri, f"{info.name}.{info.version}")
        self._unmaintained = 0

    async def dense(self, vector: Vectors, limit: int, where: str | None = None) -> Ranking:
        """Return the chunks nearest to `vector` with their cosine distances, best first.

        Raises:
            StoreError: the table cannot be read.
        """
        query = self._chunks.query().nearest_to(vector).distance_type("cosine")
        query = query.nprobes(self._settings.probes).refine_factor(REFINE)
        return await self._ranking(query, "_distance", limit, where)

    async def bm25(self, text: str, limit: int, where: str | None = None) -> Ranking:
        """Return the chunks whose content matches words of `text` with their scores, best first.

        Raises:
            StoreError: the table cannot be read.
        """
        query = self._chunks.query().nearest_to_text(text, columns=["content"])
        return await self._ranking(query, "_score", limit, where)

    async def rows(self, row_ids: Sequence[int]) -> dict[int, Row]:
        """Return the rows of a ranking, all as they are at one instant.

        A row that was replaced, deleted or moved by compaction since it was ranked is left out: row
        ids are addresses that Lance never gives to another row.

        Raises:
            StoreError: the table cannot be read.
        """
        if not row_ids:
            return {}
        with store_errors(f"read collection {self.info.name!r}"):
            query = self._chunks.take_row_ids(list(row_ids)).with_row_id()
            found = await query.select(schema.SEARCH_COLUMNS).to_arrow()
        return {row.pop("_rowid"): row for row in found.to_pylist()}

    async def _ranking(self, query: Any, value: str, limit: int, where: str | None) -> Ranking:
        """Return row ids only: reading the rows of all candidates costs more than ranking them."""
        with store_errors(f"search collection {self.info.name!r}"):
            query = query.with_row_id().select(["_rowid", value]).limit(limit)
            found = await (query.where(where) if where else query).to_arrow()
        row_ids, values = found["_rowid"].to_pylist(), found[value].to_pylist()
        return list(zip(row_ids, values, strict=True))

    async def document(self, document_id: str) -> Document | None:
        """Return the document's row, or None.

        Raises:
            StoreError: the table cannot be read.
        """
        names = list(Document.__slots__)
        with store_errors(f"read collection {self.info.name!r}"):
            query = self._documents.query().where(f"document_id = {schema.quote(document_id)}")
            rows = (await query.select(names).limit(1).to_arrow()).to_pylist()
        return Document(**rows[0]) if rows else None

    async def vectors_of(self, document_id: str) -> dict[str, Vectors]:
        """Return the vectors of a document's chunks by chunk id.

        Raises:
            StoreError: the table cannot be read.
        """
        rows = await self._rows_of(document_id, ["chunk_id", "vector"])
        full = [row for row in rows if row["vector"] is not None]
        return {row["chunk_id"]: np.array(row["vector"], np.float32) for row in full}

    async def hashes(self) -> dict[str, str]:
        """Return the content hash of every document by its id.

        Raises:
            StoreError: the table cannot be read.
        """
        with store_errors(f"read collection {self.info.name!r}"):
            columns = ["document_id", "content_hash"]
            found = await self._documents.query().select(columns).to_arrow()
        return {row["document_id"]: row["content_hash"] for row in found.to_pylist()}

    async def whole(self, document_id: str) -> tuple[Row, list[Row]]:
        """Return a document's row and those of its chunks, in reading order, less vectors.

        Raises:
            StoreError: the tables cannot be read.
        """
        where = f"document_id = {schema.quote(document_id)}"
        columns = [name for name in schema.chunks(1).names if name != "vector"]
        with store_errors(f"read collection {self.info.name!r}"):
            documents = await self._documents.query().where(where).to_arrow()
        full = [row for row in await self._rows_of(document_id, columns) if row["content"]]
        full.sort(key=lambda row: int(row["slot"].rpartition(":")[2]))
        return documents.to_pylist()[0], full

    @asynccontextmanager
    async def frozen(self) -> AsyncIterator[None]:
        """Keep every writer out while the block runs.

        Raises:
            StoreError: the lock cannot be had.
        """
        with store_errors(f"lock collection {self.info.name!r}"):
            async with self._lock.held():
                yield

    async def replace(
        self,
        document: Mapping[str, Any],
        chunks: Sequence[Mapping[str, Any]],
        vectors: Vectors,
        is_live: Callable[[CollectionInfo], Awaitable[bool]] | None = None,
    ) -> bool:
        """Put a document in place of its earlier state, at one instant to every reader.

        Returns:
            False, with nothing written, if `is_live` says that another version took over.

        Args:
            document: its row in `documents`.
            chunks: its rows in `chunks`, less slots and vectors, in reading order.
            vectors: float32 [len(chunks), dimension].
            is_live: asked once no other writer can write; None writes in any case.

        Raises:
            StoreError: the tables cannot be written.
        """
        document_id = document["document_id"]
        with store_errors(f"write collection {self.info.name!r}"):
            async with self._lock.held():
                if is_live is not None and not await is_live(self.info):
                    return False
                old = {row["slot"] for row in await self._rows_of(document_id, ["slot"])}
                await self._upsert_chunks(_with_slots(document_id, chunks, old), vectors)
                await self._upsert_document(document)
                await self._maintain_at_times()
        return True

    async def maintain(self) -> None:
        """Compact the tables and bring their indices up to date. Readers and writers go on.

        Raises:
            StoreError: the tables cannot be written.
        """
        with store_errors(f"compact collection {self.info.name!r}"):
            async with self._lock.held():
                await self._maintain()

    async def _maintain_at_times(self) -> None:
        self._unmaintained += 1
        if self._unmaintained >= self._settings.maintain_every:
            await self._maintain()

    async def _maintain(self) -> None:
        keep_s = self._settings.keep_versions_s
        await maintain_chunks(self._chunks, self._settings.index_rows, keep_s)
        await compact(self._documents, keep_s)
        self._unmaintained = 0

    async def _rows_of(self, document_id: str, columns: list[str]) -> list[Row]:
        with store_errors(f"read collection {self.info.name!r}"):
            query = self._chunks.query().where(f"document_id = {schema.quote(document_id)}")
            rows: list[Row] = (await query.select(columns).to_arrow()).to_pylist()
        return rows

    async def _upsert_chunks(self, rows: Sequence[Mapping[str, Any]], vectors: Vectors) -> None:
        columns = schema.chunks(self.info.dimension)
        plain = columns.remove(columns.get_field_index("vector"))
        table = pa.Table.from_pylist(list(rows), schema=plain)
        table = table.append_column(columns.field("vector"), _vector_column(rows, vectors))
        merge = self._chunks.merge_insert("slot")
        merge = merge.when_matched_update_all().when_not_matched_insert_all()
        # "null": LanceDB takes the missing vector of a vacant slot for a bad one.
        await merge.execute(table, on_bad_vectors="null")

    async def _upsert_document(self, row: Mapping[str, Any]) -> None:
        table = pa.Table.from_pylist([dict(row)], schema=schema.DOCUMENTS)
        merge = self._documents.merge_insert("document_id")
        await merge.when_matched_update_all().when_not_matched_insert_all().execute(table)


def _with_slots(
    document_id: str, chunks: Sequence[Mapping[str, Any]], old: set[str]
) -> list[dict[str, Any]]:
    """Return the chunks in their slots, and vacant rows for the slots that they leave."""
    rows = [{**chunk, "slot": f"{document_id}:{i}"} for i, chunk in enumerate(chunks)]
    left = sorted(old - {row["slot"] for row in rows})
    return rows + [{"slot": slot, "document_id": document_id} for slot in left]


def _vector_column(rows: Sequence[Mapping[str, Any]], vectors: Vectors) -> pa.Array:
    """Return the vectors as a column, null where a row is vacant."""
    filled = [row.get("content") is not None for row in rows]
    if sum(filled) != len(vectors):
        raise ValueError(f"{sum(filled)} rows with content but {len(vectors)} vectors")
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    numbers = iter(range(len(vectors)))
    return column.take(pa.array([next(numbers) if full else None for full in filled], pa.int64()))
