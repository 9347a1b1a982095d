"""One version of one collection: its tables, searched and written."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa

from rag_graph.retrieval import schema
from rag_graph.retrieval.boundary import store_errors
from rag_graph.retrieval.locks import WriterLock
from rag_graph.retrieval.maintenance import compact, maintain_chunks
from rag_graph.retrieval.resident import Ranking, Resident, Residents, Row
from rag_graph.retrieval.slots import Update, rows_of
from rag_graph.retrieval.vectors import Vectors
from rag_graph.settings import RagSettings

REFINE = 1
"""As many rows as are wanted, times this, the approximate index brings; they are ranked again by
their exact vectors. Without it recall@10 is 0.957 in place of 0.982; twice as many find no more."""


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """A row of the `collections` table."""

    name: str
    version: int
    embedder: str
    dimension: int
    chunk_tokens: int
    deleted: bool = False
    previous: int | None = None
    """The version that was live before this one."""


@dataclass(frozen=True, slots=True)
class Document:
    """A row of the `documents` table."""

    document_id: str
    source: str
    title: str
    content_hash: str
    chunks: int
    bytes: int
    ingested_at: datetime


IsLive = Callable[[CollectionInfo], Awaitable[bool]]


class Collection:
    """Handles on the two tables of a collection's version."""

    def __init__(
        self,
        info: CollectionInfo,
        documents: lancedb.AsyncTable,
        chunks: lancedb.AsyncTable,
        settings: RagSettings,
        residents: Residents,
    ) -> None:
        self.info = info
        self._documents = documents
        self._chunks = chunks
        self._settings = settings
        self._residents = residents
        self._lock = WriterLock(settings.store_uri, f"{info.name}.{info.version}")
        self._unmaintained = 0

    async def resident(self) -> Resident | None:
        """Return the chunks as they are now, in memory; None where LanceDB is to be searched.

        Raises:
            StoreError: the table cannot be read.
        """
        with store_errors(f"read collection {self.info.name!r}"):
            return await self._residents.of(self._chunks, self.info.dimension)

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

    async def version(self) -> int:
        """Return the number of the chunks' last commit.

        Raises:
            StoreError: the table cannot be read.
        """
        with store_errors(f"read collection {self.info.name!r}"):
            return await self._chunks.version()

    async def has(self, row_ids: Iterable[int]) -> bool:
        """Whether all of these rows are there now: none was replaced, deleted or moved.

        Raises:
            StoreError: the table cannot be read.
        """
        wanted = list(row_ids)
        if not wanted:
            return True
        with store_errors(f"read collection {self.info.name!r}"):
            query = self._chunks.take_row_ids(wanted).with_row_id().select(["_rowid"])
            found: pa.Table = await query.to_arrow()
        return int(found.num_rows) == len(wanted)

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
        rows = await self._documents_where(f"document_id = {schema.quote(document_id)}")
        return Document(**rows[0]) if rows else None

    async def documents(self, after: str, limit: int) -> list[Document]:
        """Return up to `limit` documents by name, from the first whose name comes after `after`.

        Raises:
            StoreError: the table cannot be read.
        """
        rows = await self._documents_where(f"source > {schema.quote(after)}")
        rows.sort(key=lambda row: str(row["source"]))
        return [Document(**row) for row in rows[:limit]]

    async def counts(self) -> tuple[int, int]:
        """Return how many documents there are, and how many chunks they have.

        Raises:
            StoreError: the table cannot be read.
        """
        rows = await self._documents_where("true", ["chunks"])
        return len(rows), sum(row["chunks"] for row in rows)

    async def _documents_where(self, where: str, columns: Sequence[str] = ()) -> list[Row]:
        with store_errors(f"read collection {self.info.name!r}"):
            query = self._documents.query().where(f"({where}) AND NOT ({schema.GOING})")
            names = list(columns or schema.DOCUMENTS.names)
            rows: list[Row] = (await query.select(names).to_arrow()).to_pylist()
        return rows

    async def vectors_of(self, document_id: str) -> dict[str, Vectors]:
        """Return the vectors of a document's chunks by chunk id.

        Raises:
            StoreError: the table cannot be read.
        """
        rows = await self._rows_of([document_id], ["chunk_id", "vector"])
        full = [row for row in rows if row["vector"] is not None]
        return {row["chunk_id"]: np.array(row["vector"], np.float32) for row in full}

    async def states(self) -> dict[str, Document]:
        """Return every document by its id.

        Raises:
            StoreError: the table cannot be read.
        """
        return {row["document_id"]: Document(**row) for row in await self._documents_where("true")}

    async def whole(self, document_id: str) -> tuple[Row, list[Row]] | None:
        """Return a document's row and those of its chunks, in reading order, less vectors.

        None if there is no such document.

        Raises:
            StoreError: the tables cannot be read.
        """
        columns = [name for name in schema.chunks(1).names if name != "vector"]
        documents = await self._documents_where(f"document_id = {schema.quote(document_id)}")
        if not documents:
            return None
        full = [row for row in await self._rows_of([document_id], columns) if row["content"]]
        full.sort(key=lambda row: int(row["slot"].rpartition(":")[2]))
        return documents[0], full

    @asynccontextmanager
    async def frozen(self) -> AsyncIterator[None]:
        """Keep every writer out while the block runs.

        Raises:
            StoreError: the lock cannot be had.
        """
        with store_errors(f"lock collection {self.info.name!r}"):
            async with self._lock.held():
                yield

    @asynccontextmanager
    async def _written(self, is_live: IsLive | None = None) -> AsyncIterator[bool]:
        """Keep other writers out while the block writes; whether it may, `is_live` says."""
        with store_errors(f"write collection {self.info.name!r}"):
            async with self._lock.held():
                yield is_live is None or await is_live(self.info)

    async def replace(self, updates: Sequence[Update], is_live: IsLive | None = None) -> bool:
        """Put documents in place of their earlier states, each at one instant to every reader.

        All of them take one commit of the chunks, which costs as much as one document's.

        Returns:
            False, with nothing written, if `is_live` says that another version took over.

        Args:
            updates: the new states, of documents that differ.
            is_live: asked once no other writer can write; None writes in any case.

        Raises:
            StoreError: the tables cannot be written.
        """
        async with self._written(is_live) as live:
            if live:
                old = await self._slots(update.document_id for update in updates)
                await self._upsert_chunks(rows_of(updates, old, self.info.dimension))
                await self._upsert_documents([dict(update.document) for update in updates])
                await self._maintain_at_times()
        return live

    async def delete(self, document_ids: Sequence[str], is_live: IsLive | None = None) -> bool:
        """Delete documents: their chunks are gone at one instant to every reader.

        That they shall go is written first: a writer killed on the way is made up for by the next
        `maintain`.

        Returns:
            False, with nothing written, if `is_live` says that another version took over.

        Raises:
            StoreError: the tables cannot be written.
        """
        async with self._written(is_live) as live:
            if live:
                where = _among(document_ids)
                await self._documents.update({"content_hash": ""}, where=where)
                await self._delete(document_ids)
                await self._maintain_at_times()
        return live

    async def end_deletions(self) -> None:
        """Finish what a writer that was killed had begun to delete.

        Raises:
            StoreError: the tables cannot be written.
        """
        async with self._written():
            await self._end_deletions()

    async def _end_deletions(self) -> None:
        going = self._documents.query().where(schema.GOING).select(["document_id"])
        if ids := (await going.to_arrow())["document_id"].to_pylist():
            await self._delete(ids)

    async def _delete(self, document_ids: Sequence[str]) -> None:
        """Delete what `documents` says is going."""
        where = _among(document_ids)
        await self._chunks.delete(where)
        await self._documents.delete(f"({where}) AND {schema.GOING}")

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
        await self._end_deletions()
        await maintain_chunks(self._chunks, self._settings.index_rows, keep_s)
        await compact(self._documents, keep_s)
        self._unmaintained = 0

    async def _rows_of(self, document_ids: Iterable[str], columns: list[str]) -> list[Row]:
        with store_errors(f"read collection {self.info.name!r}"):
            query = self._chunks.query().where(_among(document_ids))
            rows: list[Row] = (await query.select(columns).to_arrow()).to_pylist()
        return rows

    async def _slots(self, document_ids: Iterable[str]) -> dict[str, set[str]]:
        slots: dict[str, set[str]] = defaultdict(set)
        for row in await self._rows_of(document_ids, ["document_id", "slot"]):
            slots[row["document_id"]].add(row["slot"])
        return slots

    async def _upsert_chunks(self, rows: pa.Table) -> None:
        merge = self._chunks.merge_insert("slot")
        merge = merge.when_matched_update_all().when_not_matched_insert_all()
        # "null": LanceDB takes the missing vector of a vacant slot for a bad one.
        await merge.execute(rows, on_bad_vectors="null")

    async def _upsert_documents(self, rows: list[Row]) -> None:
        table = pa.Table.from_pylist(rows, schema=schema.DOCUMENTS)
        merge = self._documents.merge_insert("document_id")
        await merge.when_matched_update_all().when_not_matched_insert_all().execute(table)


def _among(document_ids: Iterable[str]) -> str:
    return f"document_id IN ({', '.join(map(schema.quote, document_ids))})"
