"""A second look at the best candidates: a cross-encoder reads question and passage together."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import httpx
import numpy as np

from rag_graph.errors import RerankerError
from rag_graph.retrieval.onnx_model import OnnxModel
from rag_graph.settings import RagSettings

MAX_TOKENS = 512
"""Longest pair of question and passage, which common cross-encoders were trained on."""


class Reranker(Protocol):
    """What the retriever needs of a reranking model."""

    async def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return how well each text answers the query; comparable within one call only.

        Raises:
            RerankerError: the model failed.
        """


class OnnxReranker:
    """A cross-encoder in ONNX: a pair of texts in, one logit out, or the last of several."""

    def __init__(self, folder: Path, threads: int = 1) -> None:
        """Load `folder`'s model.onnx and tokenizer.json.

        Raises:
            RerankerError: the files are missing or broken.
        """
        try:
            self._model = OnnxModel(folder, threads, MAX_TOKENS)
        except Exception as error:
            raise RerankerError(
                f"The reranking model in {folder} cannot be loaded: {error}. "
                "Put model.onnx and tokenizer.json there, or unset RAG_RERANKER_DIR."
            ) from error

    async def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return the logits."""
        return await asyncio.to_thread(self._scores, query, texts)

    def _scores(self, query: str, texts: Sequence[str]) -> list[float]:
        pairs = [self._model.tokenizer.encode(query, text) for text in texts]
        try:
            return [float(np.ravel(self._model.run(pair))[-1]) for pair in pairs]
        except Exception as error:  # ONNX Runtime's exceptions have no common base but this
            raise RerankerError(f"The reranking model failed: {error}") from error


class HttpReranker:
    """A model behind `POST {url}/rerank`, in either of the two common forms.

    Cohere's, which Jina, vLLM and others share: `{model, query, documents}`, answered by
    `{"results": [{"index", "relevance_score"}]}`. That of text-embeddings-inference, which serves
    one model and takes no name: `{query, texts}`, answered by `[{"index", "score"}]`.
    """

    def __init__(self, url: str, model: str = "", api_key: str = "", timeout_s: float = 2) -> None:
        """Remember the endpoint; nothing is sent before the first `scores`.

        Args:
            url: base URL, such as http://127.0.0.1:8080/v1.
            model: name of the model there; empty for text-embeddings-inference.
            api_key: bearer token; empty for none.
            timeout_s: seconds that one call may take: a reader waits for it.
        """
        self._url = url.rstrip("/") + "/rerank"
        self._model = model
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeout_s = timeout_s
        self._tls = ssl.create_default_context()

    async def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return the endpoint's scores."""
        body: dict[str, Any] = {"query": query, "texts": list(texts)}
        if self._model:
            body = {"model": self._model, "query": query, "documents": list(texts)}
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                httpx.AsyncClient(
                    headers=self._headers, verify=self._tls, timeout=self._timeout_s
                ) as client,
            ):
                response = await client.post(self._url, json=body)
        except TimeoutError as error:
            raise self._failure(f"nothing within {self._timeout_s} s") from error
        except httpx.HTTPError as error:
            raise self._failure(str(error) or type(error).__name__) from error
        if not response.is_success:
            raise self._failure(f"HTTP {response.status_code}: {response.text[:200]}")
        return self._read(response, len(texts))

    def _read(self, response: httpx.Response, wanted: int) -> list[float]:
        try:
            given = response.json()
            results = given["results"] if isinstance(given, dict) else given
            scores = {
                int(r["index"]): float(r.get("relevance_score", r.get("score"))) for r in results
            }
            return [scores[i] for i in range(wanted)]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._failure(f"no score for each of {wanted} passages: {error!r}") from error

    def _failure(self, reason: str) -> RerankerError:
        return RerankerError(f"The reranking endpoint {self._url} did not answer: {reason}")


def open_reranker(settings: RagSettings) -> Reranker | None:
    """Return the reranker that `settings` name, or None.

    Raises:
        RerankerError: its files are missing or broken.
    """
    if settings.reranker_dir is not None:
        return OnnxReranker(settings.reranker_dir, settings.embedder_threads)
    if settings.reranker_url:
        return HttpReranker(
            settings.reranker_url,
            settings.reranker_model,
            settings.reranker_api_key.get_secret_value(),
            settings.reranker_timeout_s,
        )
    return None
