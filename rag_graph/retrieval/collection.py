"""One version of one collection: its tables, searched and written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lancedb
import pyarrow as pa

from rag_graph.errors import EmbedderError
from rag_graph.retrieval import schema
from rag_graph.retrieval.boundary import store_errors
from rag_graph.retrieval.embedder import Embedder, Vectors

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """A row of the `collections` table."""

    name: str
    version: int
    embedder: str
    dimension: int
    chunk_tokens: int


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
        self, info: CollectionInfo, documents: lancedb.AsyncTable, chunks: lancedb.AsyncTable
    ) -> None:
        self.info = info
        self._documents = documents
        self._chunks = chunks

    def check_embedder(self, embedder: Embedder) -> None:
        """Refuse vectors of another model than the collection's.

        Raises:
            EmbedderError: `embedder` is not the one that the collection was made with.
        """
        if (embedder.name, embedder.dimension) != (self.info.embedder, self.info.dimension):
            raise EmbedderError(
                f"Collection {self.info.name!r} holds vectors of {self.info.embedder} "
                f"({self.info.dimension} dimensions), but the embedder is {embedder.name} "
                f"({embedder.dimension}). Set the embedder back, or ingest into a new collection."
            )

    async def dense(self, vector: Vectors, limit: int, where: str | None = None) -> list[Row]:
        """Return the chunks nearest to `vector` by cosine, best first.

        Raises:
            StoreError: the table cannot be read.
        """
        query = self._chunks.query().nearest_to(vector).distance_type("cosine")
        return await self._rows(query, "_distance", limit, where)

    async def bm25(self, text: str, limit: int, where: str | None = None) -> list[Row]:
        """Return the chunks whose content matches words of `text` best, best first.

        Raises:
            StoreError: the table cannot be read.
        """
        query = self._chunks.query().nearest_to_text(text, columns=["content"])
        return await self._rows(query, "_score", limit, where)

    async def _rows(self, query: Any, rank: str, limit: int, where: str | None) -> list[Row]:
        with store_errors(f"search collection {self.info.name!r}"):
            query = query.select([*schema.SEARCH_COLUMNS, rank]).limit(limit)
            found = await (query.where(where) if where else query).to_arrow()
        rows: list[Row] = found.to_pylist()
        return rows

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

    async def chunks_of(self, document_id: str) -> pa.Table:
        """Return the slots, chunk ids and vectors of a document, vacant slots included.

        Raises:
            StoreError: the table cannot be read.
        """
        with store_errors(f"read collection {self.info.name!r}"):
            query = self._chunks.query().where(f"document_id = {schema.quote(document_id)}")
            return await query.select(["slot", "chunk_id", "vector"]).to_arrow()

    async def put_chunks(self, rows: Sequence[Mapping[str, Any]], vectors: Vectors) -> None:
        """Upsert `rows` by slot, in one commit.

        Args:
            rows: the columns but `vector`; a row without `content` is vacant.
            vectors: float32 [rows with content, dimension], in their order.

        Raises:
            StoreError: the table cannot be written.
        """
        columns = schema.chunks(self.info.dimension)
        given = pa.Table.from_pylist(
            list(rows), schema=columns.remove(columns.get_field_index("vector"))
        )
        table = given.append_column(columns.field("vector"), _vector_column(rows, vectors))
        with store_errors(f"write collection {self.info.name!r}"):
            merge = self._chunks.merge_insert("slot")
            merge = merge.when_matched_update_all().when_not_matched_insert_all()
            # "null": LanceDB takes the missing vector of a vacant slot for a bad one.
            await merge.execute(table, on_bad_vectors="null")

    async def put_document(self, row: Mapping[str, Any]) -> None:
        """Upsert one row of the `documents` table.

        Raises:
            StoreError: the table cannot be written.
        """
        table = pa.Table.from_pylist([dict(row)], schema=schema.DOCUMENTS)
        with store_errors(f"write collection {self.info.name!r}"):
            merge = self._documents.merge_insert("document_id")
            await merge.when_matched_update_all().when_not_matched_insert_all().execute(table)


def _vector_column(rows: Sequence[Mapping[str, Any]], vectors: Vectors) -> pa.Array:
    """Return the vectors as a column, null where a row is vacant."""
    filled = [row.get("content") is not None for row in rows]
    if sum(filled) != len(vectors):
        raise ValueError(f"{sum(filled)} rows with content but {len(vectors)} vectors")
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    numbers = iter(range(len(vectors)))
    return column.take(pa.array([next(numbers) if full else None for full in filled], pa.int64()))
