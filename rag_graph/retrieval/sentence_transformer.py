"""What a directory of a sentence-transformers model says of how its vectors are made.

Exports to ONNX hold the transformer; pooling, longest text and prompts stand in files beside it:
https://sbert.net/docs/sentence_transformer/usage/custom_models.html.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from contracts import errors
from rag_graph.errors import EmbedderError
from rag_graph.retrieval.vectors import Vectors

T = TypeVar("T")

MEAN = "mean"
DEFAULT_TOKENS = 256
"""Longest text of a model whose directory does not say."""
MOST_TOKENS = 1 << 20
PLAIN = frozenset({"Transformer", "Pooling", "Normalize"})
"""Modules that this computes, or that the ONNX file holds."""
FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": MEAN,
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""How versions before 5.4 name the poolings."""


def _weighted_mean(tokens: Vectors) -> Vectors:
    weights = np.arange(1, len(tokens) + 1, dtype=np.float32)
    found: Vectors = weights @ tokens / weights.sum()
    return found


def _mean(tokens: Vectors) -> Vectors:
    found: Vectors = tokens.mean(axis=0)
    return found


POOLINGS: dict[str, Callable[[Vectors], Vectors]] = {
    "cls": lambda tokens: tokens[0],
    "max": lambda tokens: tokens.max(axis=0),
    MEAN: _mean,
    "mean_sqrt_len_tokens": _mean,  # of another length, which is made 1
    "weightedmean": _weighted_mean,
    "lasttoken": lambda tokens: tokens[-1],
}
"""Vectors of one text's tokens, float32 [tokens, dimension], to one of [dimension]."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a model's vectors are made."""

    pooling: str = MEAN
    max_tokens: int = DEFAULT_TOKENS
    """Longest text, special tokens and prompt included."""
    query_prompt: str = ""
    """Stands before a text that is searched for."""
    document_prompt: str = ""
    """Stands before a text that is found."""
    unable: str = ""
    """Why vectors of tokens cannot be made into one here."""

    def mark(self, *, pools: bool) -> str:
        """Return what tells documents' vectors from those of the same model by another recipe.

        Args:
            pools: whether the pooling has a part in it, which the model may do itself.
        """
        made = (self.pooling if pools else MEAN, self.document_prompt)
        if made == (MEAN, ""):
            return ""
        return "-" + hashlib.sha256(json.dumps(made).encode()).hexdigest()[:8]


class _Part(BaseModel):
    """A file, or a part of one, of which only some fields matter."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class _Module(_Part):
    path: str
    type: str

    @property
    def kind(self) -> str:
        return self.type.rpartition(".")[2]


class _Length(_Part):
    max_seq_length: int | None = None
    model_max_length: int | None = None
    max_position_embeddings: int | None = None


class _Prompts(_Part):
    prompts: dict[str, str | None] = {}

    def first(self, *names: str) -> str:
        """Return the first prompt of these that is not empty."""
        return next(filter(None, map(self.prompts.get, names)), "")


class _Pooling(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")

    pooling_mode: str | list[str] | None = None
    include_prompt: bool = True

    @property
    def modes(self) -> list[str]:
        """The poolings whose results are put side by side, one at least."""
        if isinstance(self.pooling_mode, str):
            return [self.pooling_mode]
        if self.pooling_mode:
            return self.pooling_mode
        flags = self.model_extra or {}
        return [mode for flag, mode in FLAGS.items() if flags.get(flag)] or [MEAN]


def read(folder: Path) -> Recipe:
    """Return what `folder` says, and what is usual where it says nothing.

    Raises:
        EmbedderError: a file is not of its form.
    """
    modules = _file(folder / "modules.json", TypeAdapter(list[_Module])) or []
    path = next((module.path for module in modules if module.kind == "Pooling"), "1_Pooling")
    pooling = _file(folder / path / "config.json", TypeAdapter(_Pooling)) or _Pooling()
    given = _file(folder / "config_sentence_transformers.json", TypeAdapter(_Prompts))
    prompts = given or _Prompts()
    query, document = prompts.first("query"), prompts.first("document", "passage", "corpus")
    return Recipe(
        pooling.modes[0],
        _length(folder),
        query,
        document,
        _unable(modules, pooling, prompted=bool(query or document)),
    )


def _length(folder: Path) -> int:
    """Return the longest text. Tokenizers that know no limit say 1e30."""
    form = TypeAdapter(_Length)
    own = _file(folder / "sentence_bert_config.json", form) or _Length()
    tokenizer = _file(folder / "tokenizer_config.json", form) or _Length()
    model = _file(folder / "config.json", form) or _Length()
    said = [own.max_seq_length or tokenizer.model_max_length, model.max_position_embeddings]
    return min((n for n in said if n and 2 < n <= MOST_TOKENS), default=DEFAULT_TOKENS)


def _unable(modules: Sequence[_Module], pooling: _Pooling, *, prompted: bool) -> str:
    if strange := [module.kind for module in modules if module.kind not in PLAIN]:
        return f"its module {strange[0]}"
    if len(pooling.modes) > 1 or pooling.modes[0] not in POOLINGS:
        return f"its pooling, {' and '.join(pooling.modes)},"
    if prompted and not pooling.include_prompt:
        return "leaving prompts out of the pooling"
    return ""


def _file(path: Path, form: TypeAdapter[T]) -> T | None:
    """Return what the file at `path` holds, or None if there is none.

    Raises:
        EmbedderError: it cannot be read, or is not of its form.
    """
    try:
        return form.validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EmbedderError(f"{path} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        reason = errors.from_validation_error(error).message
        raise EmbedderError(f"{path}: {reason}") from error
