"""Several models as one LLM: a request goes to the endpoints of the model that it names."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing

from contracts.openai import ChatCompletionRequest, Model
from rag_graph.errors import LLMError, ModelTableError
from rag_graph.llm.client import LLMClient, OnLoad
from rag_graph.llm.pool import LLMPool, furthest, own_endpoint, plain_endpoint
from rag_graph.llm.transcript import Output
from rag_graph.routing import ModelEntry
from rag_graph.settings import RagSettings
from rag_graph.state import Starting


class ModelRouter:
    """The models of a table. Which one to ask is `routing.decide`'s; this one asks it."""

    def __init__(self, table: Sequence[ModelEntry], pools: Mapping[str, LLMPool]) -> None:
        """Make a router.

        Args:
            table: at least one model.
            pools: the endpoints of each, by the model's name.
        """
        self.table = tuple(table)
        self._pools = pools

    @classmethod
    def open(cls, table: Sequence[ModelEntry], settings: RagSettings) -> ModelRouter:
        """Return a router over the network.

        Raises:
            ModelTableError: a model has no endpoint, or its key's variable is not set.
            LLMTlsError: the files for mutual TLS cannot be used.
        """
        return cls(table, {entry.name: _pool(entry, settings) for entry in table})

    @property
    def url(self) -> str:
        """The first model's address."""
        return self._pools[self.table[0].name].url

    def healthy(self, name: str) -> bool:
        """Whether the model can be asked, as `LLMPool.healthy`."""
        return self._pools[name].healthy()

    def watch(self, on_load: OnLoad) -> None:
        """Have `on_load` told of every endpoint's load with every answer that begins."""
        for pool in self._pools.values():
            pool.watch(on_load)

    async def starting(self) -> Starting | None:
        """Return the start of the model that is furthest, if one starts."""
        pools = self._pools.values()
        return furthest(await asyncio.gather(*(pool.starting() for pool in pools)))

    async def has(self, model: str) -> bool:
        """Whether the table has `model`, be it well or not."""
        return model in self._pools

    async def models(self) -> list[Model]:
        """Return the models of the table whose endpoints answer.

        Raises:
            LLMError: none does.
        """
        probes = [self._pools[entry.name].models() for entry in self.table]
        answers = await asyncio.gather(*probes, return_exceptions=True)
        found = [
            Model(id=entry.name, created=listed[0].created if listed else 0, owned_by="isthmus")
            for entry, listed in zip(self.table, answers, strict=True)
            if not isinstance(listed, BaseException)
        ]
        failures = [answer for answer in answers if isinstance(answer, BaseException)]
        for failure in failures:
            if not isinstance(failure, LLMError) or not found:
                raise failure
        return found

    async def stream(
        self,
        request: ChatCompletionRequest,
        timeout_s: float,
        extra_headers: Mapping[str, str] | None = None,
        *,
        spare: bool = False,
    ) -> AsyncGenerator[Output, None]:
        """Generate with the model that the request names; `spare` as for `LLMPool.stream`.

        Raises:
            LLMError: as `LLMPool.stream`.
        """
        entry = next(entry for entry in self.table if entry.name == request.model)
        asked = request.model_copy(update={"model": entry.served_as or entry.name})
        pool = self._pools[entry.name]
        outputs = pool.stream(asked, timeout_s, extra_headers, spare=spare)
        async with aclosing(outputs):
            async for output in outputs:
                yield output

    async def aclose(self) -> None:
        """Close the connections of all models."""
        for pool in self._pools.values():
            await pool.aclose()


def _pool(entry: ModelEntry, settings: RagSettings) -> LLMPool:
    """Return the endpoints of a model: the table's, or those of RAG_LLM_URL.

    Key and certificate of RAG_LLM_URL are shown to no other address.
    """
    if not entry.urls:
        own = settings.llm_tiers[0]
        if not own:
            raise ModelTableError(
                f"RAG_MODELS_FILE: the model {entry.name!r} has no urls and RAG_LLM_URL is not "
                "set; give one of them."
            )
        return _pool_of([own_endpoint(url, settings) for url in own], settings)
    key = os.environ.get(entry.api_key_env, "") if entry.api_key_env else ""
    if entry.api_key_env and not key:
        raise ModelTableError(
            f"RAG_MODELS_FILE: the model {entry.name!r} takes its key from {entry.api_key_env}, "
            "which is not set."
        )
    return _pool_of([plain_endpoint(url, key, settings) for url in entry.urls], settings)


def _pool_of(clients: Sequence[LLMClient], settings: RagSettings) -> LLMPool:
    return LLMPool([clients], settings.first_token_timeout_s)
