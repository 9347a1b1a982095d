"""Texts to vectors by any OpenAI-compatible `/v1/embeddings` endpoint."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import numpy as np

from rag_graph.errors import EmbedderError
from rag_graph.retrieval.sentence_transformer import Recipe
from rag_graph.retrieval.vectors import Vectors

BATCH = 32
"""Texts of one request: what common servers take without a setting of their own."""
ATTEMPTS = 4
FIRST_PAUSE_S = 0.2
RETRIED = frozenset({408, 429, 500, 502, 503, 504})


class HttpEmbedder:
    """A model behind `POST {url}/embeddings`.

    The endpoint's tokenizer is not known here: `count` is another model's, for sizing chunks.
    A connection lives for one call of `embed`, so that nothing outlives an event loop.
    """

    def __init__(
        self,
        url: str,
        model: str,
        dimension: int,
        count: Callable[[str], int],
        max_tokens: int,
        api_key: str = "",
        timeout_s: float = 30.0,
        query_prompt: str = "",
        document_prompt: str = "",
    ) -> None:
        """Remember the endpoint; nothing is sent before the first `embed`.

        Args:
            url: base URL, such as http://127.0.0.1:8080/v1.
            model: name of the model there.
            dimension: length of its vectors.
            count: tokens of a text.
            max_tokens: longest text that is embedded whole, in `count`'s tokens.
            api_key: bearer token; empty for none.
            timeout_s: seconds that one request may take.
            query_prompt: stands before a text that is searched for.
            document_prompt: stands before a text that is found.
        """
        recipe = Recipe(query_prompt=query_prompt, document_prompt=document_prompt)
        self._url = url.rstrip("/") + "/embeddings"
        self._model = model
        self.name = f"http/{model}{recipe.mark(pools=False)}"
        self._recipe = recipe
        self.dimension = dimension
        self.count = count
        self.max_tokens = max_tokens - count(document_prompt)
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeout_s = timeout_s
        self._tls = ssl.create_default_context()

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Return unit vectors, float32 [len(texts), dimension], in the texts' order.

        Raises:
            EmbedderError: the endpoint refused, failed four times, or sent what does not fit.
        """
        return await self._embed_all([self._recipe.document_prompt + text for text in texts])

    async def embed_query(self, text: str) -> Vectors:
        """Return the unit vector of what is searched for, float32 [dimension].

        Raises:
            EmbedderError: as `embed`.
        """
        found: Vectors = (await self._embed_all([self._recipe.query_prompt + text]))[0]
        return found

    async def _embed_all(self, texts: Sequence[str]) -> Vectors:
        vectors = np.empty((len(texts), self.dimension), np.float32)
        async with httpx.AsyncClient(
            headers=self._headers, timeout=self._timeout_s, verify=self._tls
        ) as client:
            for start in range(0, len(texts), BATCH):
                batch = texts[start : start + BATCH]
                response = await self._post(client, batch)
                vectors[start : start + len(batch)] = self._read(response, len(batch))
        return vectors

    async def _post(self, client: httpx.AsyncClient, batch: Sequence[str]) -> httpx.Response:
        body = {"model": self._model, "input": batch, "encoding_format": "float"}
        failure = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                pause = FIRST_PAUSE_S * 2 ** (attempt - 1)
                await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - spreads retries
            try:
                response = await client.post(self._url, json=body)
            except httpx.TransportError as error:
                failure = str(error) or type(error).__name__
                continue
            if response.is_success:
                return response
            failure = f"HTTP {response.status_code}: {response.text[:200]}"
            if response.status_code not in RETRIED:
                break
        raise EmbedderError(f"The embedding endpoint {self._url} did not answer: {failure}")

    def _read(self, response: httpx.Response, wanted: int) -> Vectors:
        try:
            data: list[dict[str, Any]] = response.json()["data"]
            ordered = sorted(data, key=lambda item: int(item["index"]))
            indices = [item["index"] for item in ordered]
            found = np.array([item["embedding"] for item in ordered], np.float32)
        except (ValueError, KeyError, TypeError) as error:
            raise EmbedderError(
                f"The embedding endpoint {self._url} sent no embeddings: {error!r}"
            ) from error
        if indices != list(range(wanted)) or found.shape != (wanted, self.dimension):
            raise EmbedderError(
                f"The embedding endpoint {self._url} sent vectors of shape {found.shape} where "
                f"{(wanted, self.dimension)} was due. Check RAG_EMBEDDER_MODEL and "
                "RAG_EMBEDDER_DIMENSION."
            )
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        if not np.all(np.isfinite(lengths)) or not np.all(lengths > 0):
            raise EmbedderError(f"The embedding endpoint {self._url} sent vectors without length.")
        unit: Vectors = found / lengths
        return unit
