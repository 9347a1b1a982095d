"""What is in the store: its collections and their documents, as clients are told of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rag_graph.errors import CollectionNotFoundError, NotFoundError, StoreError
from rag_graph.retrieval.collection import Collection, Document
from rag_graph.retrieval.store import Store
from rag_graph.state import DEFAULT_COLLECTION


class Catalog:
    """Reads a store. Answers are plain values, so that who passes them on needs no LanceDB."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def names(self) -> list[str]:
        """Return the names of the collections there are, sorted.

        Raises:
            StoreError: the store cannot be read.
        """
        return [info.name for info in await self._store.collections()]

    async def describe(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """Return those of the collections `names` that there are.

        Raises:
            StoreError: the store cannot be read.
        """
        wanted = set(names)
        found = []
        for info in await self._store.collections():
            if info.name in wanted:
                collection = await self._store.version(info)
                try:
                    found.append(await self._describe(collection))
                except StoreError:
                    if await self._store.is_live(info):
                        raise  # else it was deleted meanwhile
        return found

    async def _describe(self, collection: Collection) -> dict[str, Any]:
        info = collection.info
        documents, chunks = await collection.counts()
        before = None
        if info.previous is not None:
            before, _ = await self._store.made_for(info, info.previous)
        return {
            "name": info.name,
            "object": "collection",
            "embedder": info.embedder,
            "dimension": info.dimension,
            "chunk_tokens": info.chunk_tokens,
            "previous_embedder": before,
            "documents": documents,
            "chunks": chunks,
        }

    async def documents(self, name: str, after: str, limit: int) -> list[dict[str, Any]]:
        """Return up to `limit` documents of collection `name`, by name, those after `after`.

        Raises:
            CollectionNotFoundError: there is no such collection; the default one is then empty.
            StoreError: the store cannot be read.
        """
        try:
            collection = await self._store.collection(name)
        except CollectionNotFoundError:
            if name == DEFAULT_COLLECTION:
                return []
            raise
        return [_document(one, name) for one in await collection.documents(after, limit)]

    async def document(self, name: str, document_id: str) -> dict[str, Any]:
        """Return a document of collection `name`.

        Raises:
            NotFoundError: there is no such document, or no such collection.
            StoreError: the store cannot be read.
        """
        found = await (await self._store.collection(name)).document(document_id)
        if found is None:
            raise NotFoundError(f"There is no document {document_id!r} in {name!r}.")
        return _document(found, name)


def _document(found: Document, collection: str) -> dict[str, Any]:
    return {
        "id": found.document_id,
        "object": "document",
        "name": found.source,
        "title": found.title,
        "collection": collection,
        "chunks": found.chunks,
        "bytes": found.bytes,
        "created_at": found.ingested_at.timestamp(),
    }
