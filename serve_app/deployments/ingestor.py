"""The deployment that takes documents in: it parses, embeds and writes. One replica: one writer."""

from __future__ import annotations

from contextlib import AsyncExitStack

from rag_graph.settings import RagSettings
from rag_graph.state import DocumentReport


class IngestorReplica:
    """The writer of the vector store."""

    async def __init__(self, settings: RagSettings) -> None:  # type: ignore[misc]  # Serve awaits
        self._opened = AsyncExitStack()
        # Imported here for the reason given in `deployments/retriever.py`.
        from rag_graph.ingest.pipeline import Ingestor

        self._ingestor = await Ingestor.open(settings)
        self._opened.push_async_callback(self._ingestor.aclose)

    async def ingest(self, name: str, content: bytes, collection: str) -> DocumentReport:
        """Put one document in; see `Ingestor.ingest` for what it raises."""
        return await self._ingestor.ingest(name, content, collection)

    async def __del__(self) -> None:
        """End the parsing process; Serve awaits this when the replica stops, however far it got."""
        await self._opened.aclose()
