"""The LanceDB database: which collections there are, and handles on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import lancedb
import pyarrow as pa
from lancedb.index import FTS, BTree

from rag_graph.errors import CollectionExistsError, CollectionNotFoundError
from rag_graph.retrieval import schema
from rag_graph.retrieval.boundary import store_errors
from rag_graph.retrieval.collection import Collection, CollectionInfo
from rag_graph.retrieval.embedder import Embedder
from rag_graph.retrieval.locks import WriterLock
from rag_graph.retrieval.resident import Residents
from rag_graph.retrieval.shared_lookup import SharedLookup
from rag_graph.settings import RagSettings

FULL_TEXT = FTS(stem=True, remove_stop_words=True, ascii_folding=True, with_position=False)
"""English stems; no positions, since phrase queries are not offered."""


class Store:
    """One connection to the database. Open it with `Store.open`."""

    def __init__(
        self, connection: lancedb.AsyncConnection, settings: RagSettings, caches: lancedb.Session
    ) -> None:
        self.caches = caches
        self._connection = connection
        self._settings = settings
        self._collections: lancedb.AsyncTable | None = None
        self._known: tuple[int, dict[str, CollectionInfo]] | None = None
        self._look_up = SharedLookup(self._read_infos)
        self._lock = WriterLock(settings.store_uri, schema.COLLECTIONS_TABLE)
        self._residents = Residents(settings.resident_bytes)
        self._open: dict[tuple[str, int], Collection] = {}

    @classmethod
    async def open(cls, settings: RagSettings, *, writes: bool = False) -> Store:
        """Connect to the database of `settings`; a directory is made when it is missing.

        Args:
            settings: where it is, and what it may keep in memory.
            writes: for a process that takes documents in and searches for none. LanceDB keeps
                something of every commit, and would keep gigabytes; a writer needs little of it.

        Raises:
            StoreError: it cannot be reached.
        """
        interval = timedelta(seconds=settings.read_consistency_s)
        with store_errors(f"open {settings.store_uri}"):
            caches = _caches(settings, writes=writes)
            connection = await lancedb.connect_async(
                settings.store_uri, read_consistency_interval=interval, session=caches
            )
            return cls(connection, settings, caches)

    async def collection(self, name: str) -> Collection:
        """Return the live version of collection `name`.

        Raises:
            CollectionNotFoundError: there is none.
            InvalidQueryError: `name` cannot name a collection.
            StoreError: the database cannot be read.
        """
        return await self.version(await self._live(name))

    async def collections(self) -> list[CollectionInfo]:
        """Return the collections there are, by name.

        Raises:
            StoreError: the database cannot be read.
        """
        return sorted(
            (info for info in (await self._infos()).values() if not info.deleted),
            key=lambda info: info.name,
        )

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
        try:
            return await self.collection(name)
        except CollectionNotFoundError:
            with store_errors(f"create collection {name!r}"):
                async with self._lock.held():
                    return await self._new(name, embedder, chunk_tokens)

    async def new_collection(self, name: str, embedder: Embedder, chunk_tokens: int) -> Collection:
        """Make collection `name`.

        Raises:
            CollectionExistsError: there is one.
            InvalidQueryError: `name` cannot name a collection.
            StoreError: the database cannot be read or written.
        """
        schema.check_name(name)
        with store_errors(f"create collection {name!r}"):
            async with self._lock.held():
                known = await self._info(name)
                if known is not None and not known.deleted:
                    raise CollectionExistsError(
                        f"There is a collection {name!r} already. Choose another name, or delete "
                        "it first.",
                        None,
                        "name",
                    )
                return await self._new(name, embedder, chunk_tokens)

    async def delete(self, name: str) -> None:
        """Delete a collection: it is gone at once, its tables are then dropped.

        Raises:
            CollectionNotFoundError: there is none.
            StoreError: the database cannot be written.
        """
        while True:
            info = await self._live(name)
            # The second lock: one of that name made before the drop would lose its tables to it.
            async with (await self.version(info)).frozen(), self._lock.held():
                if await self.is_live(info):
                    await self.publish(replace(info, deleted=True))
                    await self._drop_versions(name, keep=())
                    return
            # Embedded anew while this waited: delete what it is now. Or deleted, and made anew.
            if (await self._live(name)).previous is None:
                raise _no_collection(name)

    async def settle(self, info: CollectionInfo) -> None:
        """Drop the versions of a collection that are neither live nor what going back means.

        Raises:
            StoreError: the database cannot be written.
        """
        with store_errors(f"tidy collection {info.name!r}"):
            await self._drop_versions(info.name, keep=(info.version, info.previous))

    async def _drop_versions(self, name: str, keep: Sequence[int | None]) -> None:
        for table in await self._tables():
            if table.startswith(f"{name}.") and _version_of(table) not in keep:
                await self._connection.drop_table(table, ignore_missing=True)
        for key in [key for key in self._open if key[0] == name and key[1] not in keep]:
            del self._open[key]

    async def made_for(self, info: CollectionInfo, version: int) -> tuple[str, int]:
        """Return the name of the embedder of a version of `info`, and its vectors' length.

        Raises:
            StoreError: there is no such version.
        """
        with store_errors(f"read collection {info.name!r}"):
            table = await self._connection.open_table(
                schema.table_name(info.name, "chunks", version)
            )
            columns = await table.schema()
        name = (columns.metadata or {})[schema.EMBEDDER_KEY].decode()
        return name, columns.field("vector").type.list_size

    async def table(self, name: str, columns: pa.Schema) -> lancedb.AsyncTable:
        """Return a table that belongs to no collection, made if it is not there.

        Raises:
            StoreError: the database cannot be written.
        """
        with store_errors(f"open table {name!r}"):
            return await self._connection.create_table(name, schema=columns, exist_ok=True)

    async def version(self, info: CollectionInfo) -> Collection:
        """Return handles on a version's tables, live or not; opening costs more than a search.

        Raises:
            StoreError: they cannot be opened.
        """
        key = (info.name, info.version)
        if key not in self._open:
            with store_errors(f"open collection {info.name!r}"):
                documents, chunks = [
                    await self._connection.open_table(
                        schema.table_name(info.name, kind, info.version)
                    )
                    for kind in ("documents", "chunks")
                ]
            self._open[key] = Collection(info, documents, chunks, self._settings, self._residents)
        return self._open[key]

    async def create(self, info: CollectionInfo) -> Collection:
        """Make the tables of a version that nobody sees yet, or take those that are there.

        Raises:
            StoreError: the database cannot be written.
        """
        with store_errors(f"create collection {info.name!r}"):
            documents = await self._table(info, "documents", schema.DOCUMENTS)
            chunks = await self._table(
                info, "chunks", schema.chunks_of(info.embedder, info.dimension)
            )
            await documents.create_index("document_id", config=BTree())
            await chunks.create_index("slot", config=BTree())
            await chunks.create_index("document_id", config=BTree())
            await chunks.create_index("content", config=FULL_TEXT)
        return await self.version(info)

    async def next_version(self, live: CollectionInfo, embedder: Embedder) -> int:
        """Return the version to build for `embedder`: one begun or kept for it, or a new one.

        Raises:
            StoreError: the database cannot be read.
        """
        with store_errors(f"read collection {live.name!r}"):
            return await self._version_for(embedder, live.name, live.version)

    async def _version_for(self, embedder: Embedder, name: str, live: int = 0) -> int:
        versions = await self._versions(name)
        for version in sorted(versions - {live}, reverse=True):
            if await self._is_for(embedder, name, version):
                return version
        return max(versions | {live}) + 1

    async def _is_for(self, embedder: Embedder, name: str, version: int) -> bool:
        """Whether `embedder` made, or would make, the vectors of a version."""
        try:
            table = await self._connection.open_table(schema.table_name(name, "chunks", version))
        except ValueError:  # its writer was killed before the table's first commit
            return False
        columns = await table.schema()
        made_for = (columns.metadata or {}).get(schema.EMBEDDER_KEY)
        length = columns.field("vector").type.list_size
        return made_for == embedder.name.encode() and length == embedder.dimension

    async def publish(self, info: CollectionInfo) -> None:
        """Make `info` what its collection is, in one commit.

        Raises:
            StoreError: the database cannot be written.
        """
        row = {name: getattr(info, name) for name in schema.COLLECTIONS.names}
        with store_errors(f"publish collection {info.name!r}"):
            table = await self._open_collections() or await self._connection.create_table(
                schema.COLLECTIONS_TABLE, schema=schema.COLLECTIONS, exist_ok=True
            )
            if "previous" not in (await table.schema()).names:  # made before the column was
                await table.add_columns({"previous": "CAST(NULL AS BIGINT)"})
            merge = table.merge_insert("name")
            merge = merge.when_matched_update_all().when_not_matched_insert_all()
            # in the table's own order of columns, which an added one ends
            await merge.execute(pa.Table.from_pylist([row], schema=await table.schema()))

    async def is_live(self, info: CollectionInfo) -> bool:
        """Whether `info` is still what its collection is.

        Raises:
            StoreError: the database cannot be read.
        """
        return await self._info(info.name) == info

    async def _new(self, name: str, embedder: Embedder, chunk_tokens: int) -> Collection:
        if self._collections is not None:  # by an old list a live version might be dropped
            await self._collections.checkout_latest()  # type: ignore[no-untyped-call]
        known = await self._info(name)
        if known is not None and not known.deleted:
            return await self.version(known)  # another process was faster
        if known is None:
            version = await self._version_for(embedder, name)
        else:
            # Above all there are: who was killed amid deleting or re-embedding left some of them.
            version = max(await self._versions(name) | {known.version}) + 1
            await self._drop_versions(name, keep=())
        info = CollectionInfo(name, version, embedder.name, embedder.dimension, chunk_tokens)
        collection = await self.create(info)
        await self.publish(info)
        return collection

    async def _live(self, name: str) -> CollectionInfo:
        info = await self._info(schema.check_name(name))
        if info is None or info.deleted:
            raise _no_collection(name)
        return info

    async def _info(self, name: str) -> CollectionInfo | None:
        return (await self._infos()).get(name)

    async def _infos(self) -> dict[str, CollectionInfo]:
        """Return all rows of `collections` by name, read again only if their version changed."""
        with store_errors("list the collections"):
            return await self._look_up()

    async def _read_infos(self) -> dict[str, CollectionInfo]:
        if self._collections is None and schema.COLLECTIONS_TABLE in await self._tables():
            self._collections = await self._open_collections()
        if self._collections is None:
            return {}
        version = await self._collections.version()
        if self._known is None or self._known[0] != version:
            found = await self._collections.query().to_arrow()
            infos = {row["name"]: CollectionInfo(**row) for row in found.to_pylist()}
            self._known = version, infos
        return self._known[1]

    async def _open_collections(self) -> lancedb.AsyncTable | None:
        """Return the table, or None while its folder is there but its first commit is not.

        A writer may be just creating it, or was killed while it did. LanceDB says so by a
        ValueError, and by nothing else that it raises here.
        """
        try:
            return await self._connection.open_table(schema.COLLECTIONS_TABLE)
        except ValueError:
            return None

    async def _versions(self, name: str) -> set[int]:
        """Return the versions of a collection that have tables, live or not, whole or not."""
        tables = await self._tables()
        return {_version_of(table) for table in tables if table.startswith(f"{name}.")}

    async def _tables(self) -> set[str]:
        names: set[str] = set()
        page = await self._connection.list_tables()
        names.update(page.tables)
        while page.page_token:
            page = await self._connection.list_tables(page_token=page.page_token)
            names.update(page.tables)
        return names

    async def _table(
        self, info: CollectionInfo, kind: str, columns: pa.Schema
    ) -> lancedb.AsyncTable:
        """Create a version's table, or take the empty one that a killed writer left."""
        name = schema.table_name(info.name, kind, info.version)
        return await self._connection.create_table(name, schema=columns, exist_ok=True)


def _version_of(table: str) -> int:
    return int(table.rpartition(".")[2])


def _caches(settings: RagSettings, *, writes: bool) -> lancedb.Session:
    """Return what bounds LanceDB's caches: 6 and 1 GiB if nobody does."""
    if writes:
        size = settings.ingest_cache_bytes
        return lancedb.Session(index_cache_size_bytes=size, metadata_cache_size_bytes=size)
    return lancedb.Session(
        index_cache_size_bytes=settings.index_cache_bytes,
        metadata_cache_size_bytes=settings.metadata_cache_bytes,
    )


def _no_collection(name: str) -> CollectionNotFoundError:
    message = f"There is no collection {name!r}; ingest a document into it first."
    return CollectionNotFoundError(message, None, "collection")
