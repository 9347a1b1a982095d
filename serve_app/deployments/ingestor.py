"""The deployment that takes documents in: it parses, embeds and writes. One replica: one writer."""

from __future__ import annotations

import inspect
from contextlib import AsyncExitStack
from typing import Any

from rag_graph.settings import RagSettings


class IngestorReplica:
    """The writer of the vector store."""

    async def __init__(self, settings: RagSettings) -> None:  # type: ignore[misc]  # Serve awaits
        self._opened = AsyncExitStack()
        # Imported here for the reason given in `deployments/retriever.py`.
        from rag_graph.ingest.jobs import Jobs

        self._jobs = await Jobs.open(settings)
        self._opened.push_async_callback(self._jobs.aclose)

    async def jobs(self, method: str, *args: Any) -> Any:
        """Return what a method of `Jobs` returns; see there for what it raises."""
        result = getattr(self._jobs, method)(*args)
        return await result if inspect.isawaitable(result) else result

    async def __del__(self) -> None:
        """Leave what is not done to the next replica, and end the parsing process; Serve awaits
        this when the replica stops, however far it got."""
        await self._opened.aclose()
