"""The deployment that searches: it embeds queries (CPU-bound) and reads the vector store."""

from __future__ import annotations

from typing import Any

from rag_graph.settings import RagSettings
from rag_graph.state import Passage, SearchQuery
from serve_app.garbage import collect_rarely


class RetrieverReplica:
    """One copy of the retriever. It only ever reads."""

    async def __init__(self, settings: RagSettings) -> None:  # type: ignore[misc]  # Serve awaits
        # Imported here, not above: the process that deploys the application names this class, and
        # need not carry ONNX Runtime and LanceDB (about 200 MB) for that.
        from rag_graph.retrieval.catalog import Catalog
        from rag_graph.retrieval.retriever import Retriever

        collect_rarely()
        self._retriever = await Retriever.open(settings)
        self._catalog = Catalog(self._retriever.store)

    async def search(self, query: SearchQuery) -> list[Passage]:
        """Return the passages for `query`; see `Retriever.search` for what it raises."""
        return await self._retriever.search(query)

    async def read(self, method: str, *args: Any) -> Any:
        """Return what a method of `Catalog` returns; see there for what it raises."""
        return await getattr(self._catalog, method)(*args)

    async def check_health(self) -> None:
        """Return if this replica works; else Serve replaces it.

        A model that fails or hangs is cured so. A store that cannot be read is not, nor a
        collection whose model is not at hand; they are left to /readyz.

        Raises:
            EmbedderError: the embedding model does not work.
        """
        await self._retriever.check_embedder()

    async def check(self) -> None:
        """Return when a search can be answered.

        Raises:
            RagError: the embedder or the store does not work.
        """
        await self._retriever.search(SearchQuery("ready?", top_k=1))
