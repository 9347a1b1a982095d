"""Texts to vectors."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from tokenizers import Tokenizer

from rag_graph.errors import EmbedderError, InvalidQueryError
from rag_graph.retrieval import bundled
from rag_graph.retrieval.http_embedder import HttpEmbedder
from rag_graph.retrieval.onnx_model import OnnxModel, model_file
from rag_graph.retrieval.sentence_transformer import POOLINGS, Recipe, read
from rag_graph.retrieval.vectors import Vectors
from rag_graph.settings import RagSettings

PLAIN_RECIPE = Recipe()


class Embedder(Protocol):
    """What retrieval and ingestion need of an embedding model."""

    @property
    def name(self) -> str:
        """Identity of the model: collections remember it, vectors of two names never mix."""

    @property
    def dimension(self) -> int:
        """Length of a vector."""

    @property
    def max_tokens(self) -> int:
        """Longest text that is embedded whole, in `count`'s tokens."""

    def count(self, text: str) -> int:
        """Return the number of tokens of `text`."""

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Return unit vectors of what is to be found, float32 [len(texts), dimension], in order.

        Raises:
            EmbedderError: the model failed.
        """

    async def embed_query(self, text: str) -> Vectors:
        """Return the unit vector of what is searched for, float32 [dimension].

        Raises:
            EmbedderError: the model failed.
        """


class OnnxEmbedder:
    """An ONNX model of tokens that makes a vector of a text, or of each of its tokens.

    Its output is `sentence_embedding`, or else its first one. Vectors of tokens, float32
    [batch, tokens, dimension], are pooled as the recipe says.

    Each text runs through the model alone. On one thread a batch is no faster, padding costs, and
    int8 activations are scaled over the whole batch: alone, a text's vector does not depend on its
    neighbours.
    """

    def __init__(
        self, folder: Path, name: str, threads: int = 1, recipe: Recipe = PLAIN_RECIPE
    ) -> None:
        """Load `folder`'s model.onnx and tokenizer.json.

        Args:
            folder: directory of the two files.
            name: the identity that collections remember; a recipe other than the plain one adds
                its mark.
            threads: CPU threads that one text uses.
            recipe: how the model wants to be used.

        Raises:
            EmbedderError: the files are missing or broken, or the model's output is another.
        """
        try:
            self._model = OnnxModel(folder, threads, recipe.max_tokens)
            shape = self._output("a").shape
        except Exception as error:
            raise EmbedderError(
                f"The embedding model in {folder} cannot be loaded: {error}. "
                "Delete the directory if it is in RAG_CACHE_DIR: it is made anew at the next start."
            ) from error
        if len(shape) not in {1, 2}:
            raise EmbedderError(
                f"The embedding model in {folder} makes {[1, *shape]} of one text. Its output has "
                "to be [batch, dimension], or [batch, tokens, dimension], which is pooled."
            )
        pools = len(shape) == 2
        if pools and recipe.unable:
            raise EmbedderError(
                f"The embedding model in {folder} makes a vector of each token, and {recipe.unable}"
                " is not done here. Export it with an output sentence_embedding, or serve it behind"
                " an endpoint and name that in RAG_EMBEDDER_URL."
            )
        self._dimension: int = shape[-1]
        self._counter: Tokenizer = Tokenizer.from_str(self._model.tokenizer.to_str())
        self._counter.no_truncation()
        self._name = name + recipe.mark(pools=pools)
        self._recipe = recipe
        self._pool = POOLINGS[recipe.pooling] if pools else _as_it_is
        special = self._counter.num_special_tokens_to_add(is_pair=False)
        self._room = recipe.max_tokens - special - self.count(recipe.document_prompt)

    @property
    def name(self) -> str:
        """Identity of the model."""
        return self._name

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self._dimension

    @property
    def max_tokens(self) -> int:
        """Longest text that is embedded whole."""
        return self._room

    def count(self, text: str) -> int:
        """Return the number of tokens of `text`, special ones not counted."""
        return len(self._counter.encode(text, add_special_tokens=False).ids)

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Return unit vectors, float32 [len(texts), dimension]."""
        return await asyncio.to_thread(self._embed_all, texts, self._recipe.document_prompt)

    async def embed_query(self, text: str) -> Vectors:
        """Return the unit vector of what is searched for, float32 [dimension]."""
        vectors = await asyncio.to_thread(self._embed_all, [text], self._recipe.query_prompt)
        found: Vectors = vectors[0]
        return found

    def _embed_all(self, texts: Sequence[str], prompt: str) -> Vectors:
        vectors = np.empty((len(texts), self.dimension), np.float32)
        try:
            for i, text in enumerate(texts):
                output = self._output(prompt + text).astype(np.float32, copy=False)
                vectors[i] = _unit(self._pool(output))
        except Exception as error:  # ONNX Runtime's exceptions have no common base but this
            raise EmbedderError(f"The embedding model failed: {error}") from error
        return vectors

    def _output(self, text: str) -> Vectors:
        return self._model.run(self._model.tokenizer.encode(text))


def _as_it_is(vector: Vectors) -> Vectors:
    return vector


def _unit(vector: Vectors) -> Vectors:
    unit: Vectors = vector / max(math.sqrt(vector @ vector), 1e-30)
    return unit


class Embedders:
    """The embedding models at hand. The first one is for new collections."""

    def __init__(self, embedders: Sequence[Embedder]) -> None:
        self.default = embedders[0]
        self._named = {embedder.name: embedder for embedder in embedders}

    def known(self, name: str) -> Embedder:
        """Return the model called `name`.

        Raises:
            InvalidQueryError: it is not at hand.
        """
        if name not in self._named:
            raise InvalidQueryError(
                f"There is no embedder {name!r} at hand; there are: {', '.join(self._named)}. "
                "Name its directory in RAG_EMBEDDER_DIRS.",
                None,
                "embedder",
            )
        return self._named[name]

    def named(self, name: str, dimension: int) -> Embedder:
        """Return the model that made a collection's vectors.

        Raises:
            EmbedderError: it is not at hand, or makes vectors of another length now.
        """
        found = self._named.get(name)
        if found is None or found.dimension != dimension:
            raise EmbedderError(
                f"The collection holds vectors of {name} ({dimension} dimensions), which is not "
                f"at hand: {', '.join(self._named)}. Embed it anew with `isthmus collections "
                f"embed COLLECTION {self.default.name}`, or name the directory of the model in "
                "RAG_EMBEDDER_DIRS."
            )
        return found


async def open_embedder(settings: RagSettings) -> Embedder:
    """Return the bundled model, converted first if the cache lacks it.

    Raises:
        EmbedderError: it cannot be had; the message says what to do.
    """
    folder = await asyncio.to_thread(bundled.prepare, settings.cache_dir)
    name = f"{bundled.NAME}/{bundled.RECIPE}"
    return await asyncio.to_thread(OnnxEmbedder, folder, name, settings.embedder_threads)


async def open_embedders(settings: RagSettings) -> Embedders:
    """Return the models at hand: RAG_EMBEDDER_URL's, if set, the bundled, RAG_EMBEDDER_DIRS'.

    Raises:
        EmbedderError: one of them cannot be had.
    """
    others = [
        await asyncio.to_thread(_from_directory, folder, settings.embedder_threads)
        for folder in settings.embedder_folders
    ]
    own = await open_embedder(settings)
    remote = [_from_endpoint(settings, own)] if settings.embedder_url else []
    return Embedders([*remote, own, *others])


def _from_endpoint(settings: RagSettings, own: Embedder) -> HttpEmbedder:
    """Return the model of RAG_EMBEDDER_URL; chunks are sized by the bundled model's tokens."""
    return HttpEmbedder(
        settings.embedder_url,
        settings.embedder_model,
        settings.embedder_dimension,
        own.count,
        own.max_tokens,
        settings.embedder_api_key.get_secret_value(),
        settings.embedder_timeout_s,
        settings.embedder_query_prompt,
        settings.embedder_document_prompt,
    )


def _from_directory(folder: Path, threads: int) -> OnnxEmbedder:
    """Return the model of a directory; what identifies it is its file, wherever that is."""
    try:
        with model_file(folder).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise EmbedderError(
            f"There is no embedding model in {folder}: {error.strerror}. Put model.onnx and "
            "tokenizer.json there, or take it out of RAG_EMBEDDER_DIRS."
        ) from error
    return OnnxEmbedder(folder, f"onnx/{digest[:16]}", threads, read(folder))
