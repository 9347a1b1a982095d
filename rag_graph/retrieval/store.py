"""The LanceDB database: which collections there are, and handles on them."""

from __future__ import annotations

from datetime import timedelta

import lancedb
import pyarrow as pa
from lancedb.index import FTS, BTree

from rag_graph.errors import CollectionNotFoundError
from rag_graph.retrieval import schema
from rag_graph.retrieval.boundary import store_errors
from rag_graph.retrieval.collection import Collection, CollectionInfo
from rag_graph.retrieval.embedder import Embedder
from rag_graph.settings import RagSettings

FULL_TEXT = FTS(stem=True, remove_stop_words=True, ascii_folding=True, with_position=False)
"""English stems; no positions, since phrase queries are not offered."""


class Store:
    """One connection to the database. Open it with `Store.open`."""

    def __init__(self, connection: lancedb.AsyncConnection, settings: RagSettings) -> None:
        self._connection = connection
        self._settings = settings
        self._collections: lancedb.AsyncTable | None = None
        self._open: dict[tuple[str, int], Collection] = {}

    @classmethod
    async def open(cls, settings: RagSettings) -> Store:
        """Connect to the database of `settings`; a directory is made when it is missing.

        Raises:
            StoreError: it cannot be reached.
        """
        interval = timedelta(seconds=settings.read_consistency_s)
        with store_errors(f"open {settings.store_uri}"):
            connection = await lancedb.connect_async(
                settings.store_uri, read_consistency_interval=interval
            )
            return cls(connection, settings)

    async def collection(self, name: str) -> Collection:
        """Return the live version of collection `name`.

        Raises:
            CollectionNotFoundError: there is none.
            InvalidQueryError: `name` cannot name a collection.
            StoreError: the database cannot be read.
        """
        info = await self._info(schema.check_name(name))
        if info is None:
            raise CollectionNotFoundError(
                f"There is no collection {name!r}; ingest a document into it first.",
                None,
                "collection",
            )
        return await self._handle(info)

    async def collection_or_new(
        self, name: str, embedder: Embedder, chunk_tokens: int
    ) -> Collection:
        """Return the live version of collection `name`, made for `embedder` if there is none.

        The row in `collections` is written last: a collection exists with all its tables and
        indices, or not at all.

        Raises:
            InvalidQueryError: `name` cannot name a collection.
            StoreError: the database cannot be read or written.
        """
        info = await self._info(schema.check_name(name))
        if info is None:
            info = CollectionInfo(name, 1, embedder.name, embedder.dimension, chunk_tokens)
            with store_errors(f"create collection {name!r}"):
                await self._create_tables(info)
                await self._publish(info)
        return await self._handle(info)

    async def _info(self, name: str) -> CollectionInfo | None:
        with store_errors("list the collections"):
            if self._collections is None and schema.COLLECTIONS_TABLE in await self._tables():
                self._collections = await self._connection.open_table(schema.COLLECTIONS_TABLE)
            if self._collections is None:
                return None
            query = self._collections.query().where(f"name = {schema.quote(name)}")
            found = (await query.to_arrow()).to_pylist()
        return CollectionInfo(**found[0]) if found else None

    async def _tables(self) -> set[str]:
        names: set[str] = set()
        page = await self._connection.list_tables()
        names.update(page.tables)
        while page.page_token:
            page = await self._connection.list_tables(page_token=page.page_token)
            names.update(page.tables)
        return names

    async def _handle(self, info: CollectionInfo) -> Collection:
        """Return the open handles of a version; opening costs more than a search."""
        key = (info.name, info.version)
        if key not in self._open:
            with store_errors(f"open collection {info.name!r}"):
                documents, chunks = [
                    await self._connection.open_table(
                        schema.table_name(info.name, kind, info.version)
                    )
                    for kind in ("documents", "chunks")
                ]
            self._open[key] = Collection(info, documents, chunks, self._settings)
        return self._open[key]

    async def _create_tables(self, info: CollectionInfo) -> None:
        documents = await self._table(info, "documents", schema.DOCUMENTS)
        chunks = await self._table(info, "chunks", schema.chunks(info.dimension))
        await documents.create_index("document_id", config=BTree())
        await chunks.create_index("slot", config=BTree())
        await chunks.create_index("document_id", config=BTree())
        await chunks.create_index("content", config=FULL_TEXT)

    async def _table(
        self, info: CollectionInfo, kind: str, columns: pa.Schema
    ) -> lancedb.AsyncTable:
        """Create a version's table, or take the empty one that a killed writer left."""
        name = schema.table_name(info.name, kind, info.version)
        return await self._connection.create_table(name, schema=columns, exist_ok=True)

    async def _publish(self, info: CollectionInfo) -> None:
        row = {name: getattr(info, name) for name in schema.COLLECTIONS.names}
        table = await self._connection.create_table(
            schema.COLLECTIONS_TABLE, schema=schema.COLLECTIONS, exist_ok=True
        )
        merge = table.merge_insert("name").when_matched_update_all().when_not_matched_insert_all()
        await merge.execute(pa.Table.from_pylist([row], schema=schema.COLLECTIONS))
