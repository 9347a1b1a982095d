"""Re-embedding without downtime: another version is built beside the live one, then swapped in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from rag_graph.retrieval.collection import Collection, CollectionInfo
from rag_graph.retrieval.embedder import Embedder
from rag_graph.retrieval.store import Store

LAST_PASS = 8
"""Documents left to copy from which on writers are kept out and the rest is copied."""
OnDocuments = Callable[[int, int], None]
"""Called with the documents copied in this pass, and how many it has."""


async def migrate(
    store: Store,
    name: str,
    embedder: Embedder,
    on_progress: OnDocuments = lambda _done, _total: None,
) -> CollectionInfo:
    """Serve collection `name` with the vectors of `embedder`. Return what it was before.

    Searches go on against the live version; documents ingested meanwhile are caught up with. The
    swap is one commit. The earlier version stays, so going back is the same call with the earlier
    embedder: only what changed since is embedded again.

    Killed at any point, the collection is as it was or as it shall be; the next run goes on with
    the documents that are copied already.

    Args:
        store: where the collection is.
        name: the collection.
        embedder: the model to embed with; searchers need it at hand before the swap.
        on_progress: called for every document.

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
    )
    shadow = await store.create(info)
    while len(stale := await _stale(live, shadow)) > LAST_PASS:
        await _copy(live, shadow, stale, embedder, on_progress)
    await shadow.maintain()
    async with live.frozen():
        await _copy(live, shadow, await _stale(live, shadow), embedder, on_progress)
        await store.publish(info)
    return live.info


async def _stale(live: Collection, shadow: Collection) -> list[str]:
    """Return the ids of the live documents that the shadow lacks or has in another state."""
    copied = await shadow.hashes()
    return [key for key, hashed in (await live.hashes()).items() if copied.get(key) != hashed]


async def _copy(
    live: Collection,
    shadow: Collection,
    documents: list[str],
    embedder: Embedder,
    on_progress: OnDocuments,
) -> None:
    for done, document_id in enumerate(documents):
        on_progress(done, len(documents))
        document, chunks = await live.whole(document_id)
        vectors = await embedder.embed([chunk["content"] for chunk in chunks])
        await shadow.replace(document, chunks, vectors)
