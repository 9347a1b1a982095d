"""Re-embedding without downtime: another version is built beside the live one, then swapped in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from rag_graph.errors import CollectionNotFoundError
from rag_graph.retrieval.collection import Collection, CollectionInfo, Document
from rag_graph.retrieval.embedder import Embedder
from rag_graph.retrieval.slots import Update
from rag_graph.retrieval.store import Store

LAST_PASS = 8
"""Documents left to copy from which on writers are kept out and the rest is copied."""
OnChunks = Callable[[int, int], None]
"""Called with the chunks copied in this pass, and how many it has."""


async def migrate(
    store: Store,
    name: str,
    embedder: Embedder,
    on_progress: OnChunks = lambda _done, _total: None,
) -> CollectionInfo:
    """Serve collection `name` with the vectors of `embedder`. Return what it was before.

    Searches go on against the live version; documents ingested or deleted meanwhile are caught up
    with. The swap is one commit. The earlier version stays, so going back is the same call with the
    earlier embedder: only what changed since is embedded again. Versions before that are dropped.

    Killed at any point, the collection is as it was or as it shall be; the next run goes on with
    the documents that are copied already.

    Args:
        store: where the collection is.
        name: the collection.
        embedder: the model to embed with; searchers need it at hand before the swap.
        on_progress: called for every document, with counts of chunks.

    Raises:
        CollectionNotFoundError: there is no such collection.
        EmbedderError: the embedder failed.
        StoreError: the store cannot be read or written.
    """
    live = await store.collection(name)
    info = replace(
        live.info,
        version=await store.next_version(live.info, embedder),
        embedder=embedder.name,
        dimension=embedder.dimension,
        previous=live.info.version,
    )
    if info.embedder == live.info.embedder:
        return live.info
    shadow = await store.create(info)
    while len(stale := await _stale(live, shadow)) > LAST_PASS:
        await _copy(live, shadow, stale, embedder, on_progress)
    await shadow.maintain()
    async with live.frozen():
        if not await store.is_live(live.info):
            raise CollectionNotFoundError(f"Collection {name!r} was deleted or swapped meanwhile.")
        await _copy(live, shadow, await _stale(live, shadow), embedder, on_progress)
        await store.publish(info)
    await store.settle(info)
    return live.info


async def _stale(live: Collection, shadow: Collection) -> list[Document]:
    """Return the live documents that the shadow lacks or has in another state.

    What is live no more is deleted from the shadow first.
    """
    wanted, copied = await live.states(), await shadow.states()
    if gone := sorted(copied.keys() - wanted.keys()):
        await shadow.delete(gone)
    return [
        document
        for key, document in wanted.items()
        if key not in copied or copied[key].content_hash != document.content_hash
    ]


async def _copy(
    live: Collection,
    shadow: Collection,
    documents: list[Document],
    embedder: Embedder,
    on_progress: OnChunks,
) -> None:
    done, total = 0, sum(document.chunks for document in documents)
    for document in documents:
        on_progress(done, total)
        found = await live.whole(document.document_id)
        if found is None:
            continue  # deleted meanwhile
        row, chunks = found
        vectors = await embedder.embed([chunk["content"] for chunk in chunks])
        await shadow.replace([Update(row, chunks, vectors)])
        done += document.chunks
