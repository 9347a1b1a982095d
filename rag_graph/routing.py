"""Which model answers: one table, one policy, one place. Pure but for reading the table's file.

`RAG_MODELS_FILE` names a TOML file; its order breaks ties:

    [[models]]
    name = "small"                 # what a request asks for, and what an answer's metadata says
    served_as = "qwen2.5-7b"       # the endpoint's own name for it; empty: `name`
    urls = ["http://10.0.0.7:8001/v1"]   # empty: RAG_LLM_URL
    api_key_env = "SMALL_KEY"      # variable with the bearer token; empty: none is sent
    context_tokens = 8192          # 0: unknown, taken to be enough
    input_price = 0.1              # for 1M prompt tokens, in the operator's currency
    output_price = 0.4             # for 1M generated tokens
    strengths = ["rewrite", "lookup"]
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from contracts import errors
from contracts.errors import Code
from contracts.openai import ChatMessage
from rag_graph import urls
from rag_graph.errors import LLMRequestError, ModelTableError

Task: TypeAlias = Literal["rewrite", "lookup", "multi_hop"]
"""What a model is asked to do: help with the question, answer it, answer one of several parts."""

CHARS_PER_TOKEN = 3
"""Fewer than any common tokenizer needs for prose, so that an estimate errs on the safe side."""

Price = Annotated[float, Field(ge=0)]


class ModelEntry(BaseModel):
    """One model that may answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1)]
    served_as: str = ""
    urls: tuple[str, ...] = ()
    api_key_env: str = ""
    context_tokens: Annotated[int, Field(ge=0)] = 0
    input_price: Price = 0.0
    output_price: Price = 0.0
    strengths: frozenset[Task] = frozenset()

    @field_validator("urls")
    @classmethod
    def _check_urls(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for url in given:
            urls.check(url)
        return given

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Return the price of one call."""
        spent = prompt_tokens * self.input_price + completion_tokens * self.output_price
        return spent / 1e6


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    models: Annotated[tuple[ModelEntry, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [entry.name for entry in self.models]
        if len(set(names)) < len(names):
            raise ValueError(f"two models have the same name, among {', '.join(names)}")
        return self


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a decision is made for."""

    task: Task
    prompt_tokens: int
    """As estimated; the model's own tokenizer counts a little less."""
    answer_tokens: int
    """The most that may be generated."""
    model: str | None = None
    """The model that the request names; None leaves it to the policy."""
    budget: float = 0.0
    """The most that the call may cost; 0 for no limit."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Whom to ask: the first of the chain, and who takes over if it cannot answer."""

    chain: tuple[ModelEntry, ...]
    reason: str


Healthy = Callable[[str], bool]
"""Whether the model of that name can be asked now."""


def load(path: Path) -> tuple[ModelEntry, ...]:
    """Read the table.

    Raises:
        ModelTableError: the file cannot be read or is not of its form.
    """
    try:
        return _Table.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))).models
    except OSError as error:
        raise ModelTableError(f"RAG_MODELS_FILE={path} cannot be read: {error.strerror}.") from (
            error
        )
    except ValidationError as error:
        reason = errors.from_validation_error(error).message
        raise ModelTableError(f"RAG_MODELS_FILE={path}: {reason}") from error
    except ValueError as error:
        raise ModelTableError(f"RAG_MODELS_FILE={path} is not TOML: {error}.") from error


def estimate_tokens(messages: Iterable[ChatMessage]) -> int:
    """Return about how many tokens the messages take, rather too many than too few."""
    return sum(len(message.text) // CHARS_PER_TOKEN + 8 for message in messages)


def decide(table: Sequence[ModelEntry], wanted: Wanted, healthy: Healthy) -> Decision:
    """Choose.

    A model asked for by name is asked, and no other in its place. Otherwise only models count that
    have room for prompt and answer and cost no more than the budget; of these the healthy come
    first, then those strong at the task, then the cheaper, then the earlier in the table.

    Raises:
        LLMRequestError: the model asked for is not in the table.
    """
    if wanted.model is not None:
        return Decision((_named(table, wanted.model),), "asked for by name")
    roomy = [entry for entry in table if _fits(entry, wanted)]
    if not roomy:
        widest = max(table, key=lambda entry: entry.context_tokens)
        return Decision((widest,), "too long for every model; this one has the most room")
    cheap = [
        entry for entry in roomy if _price(entry, wanted) <= wanted.budget or not wanted.budget
    ]
    if not cheap:
        cheapest = min(roomy, key=lambda entry: _price(entry, wanted))
        return Decision((cheapest,), "over the budget at every model; this one is the cheapest")
    chain = sorted(cheap, key=lambda entry: _rank(entry, wanted, healthy))
    return Decision(tuple(chain), _reason(chain, table, wanted, healthy))


def _named(table: Sequence[ModelEntry], name: str) -> ModelEntry:
    for entry in table:
        if entry.name == name:
            return entry
    known = ", ".join(entry.name for entry in table)
    message = f"There is no model {name!r}; there are: {known}."
    raise LLMRequestError(message, Code.MODEL_NOT_FOUND, "model")


def _fits(entry: ModelEntry, wanted: Wanted) -> bool:
    needed = wanted.prompt_tokens + wanted.answer_tokens
    return not entry.context_tokens or needed <= entry.context_tokens


def _price(entry: ModelEntry, wanted: Wanted) -> float:
    return entry.cost(wanted.prompt_tokens, wanted.answer_tokens)


def _rank(entry: ModelEntry, wanted: Wanted, healthy: Healthy) -> tuple[bool, bool, float]:
    weak = wanted.task not in entry.strengths
    return not healthy(entry.name), weak, _price(entry, wanted)


def _reason(
    chain: Sequence[ModelEntry], table: Sequence[ModelEntry], wanted: Wanted, healthy: Healthy
) -> str:
    first = chain[0]
    if len(table) == 1:
        return "the only model"
    if len(chain) == 1:
        return "the only model with room for it within the budget"
    down = [entry.name for entry in chain if not healthy(entry.name)]
    if len(down) == len(chain):
        return "none looks healthy; this one suits best"
    strong = wanted.task in first.strengths
    why = f"strong at {wanted.task}" if strong else "the cheapest that fits"
    return f"{why}; down now: {', '.join(down)}" if down else why
