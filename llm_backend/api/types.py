"""What the LLM service takes beyond the shared contract: sampling, choices, log probabilities.

Every field here works; `contracts.openai` forbids all others. Extensions to OpenAI's API carry the
names that vLLM gave them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from contracts.openai import GenerationRequest
from contracts.tools import MAX_TOOLS, Message, Tool, ToolName
from llm_backend.engine.grammar import ANY_OBJECT, Schema

MAX_CHOICES = 64
"""Most sequences that one request may ask for: prompts times `n`."""

MAX_BIASES = 1024
"""Most entries of `logit_bias`, which cost time at every token."""

TokenIds = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1)]
Text = Annotated[str, Field(min_length=1)]


class JsonSchema(BaseModel):
    """A schema and its name. It is enforced whatever `strict` says."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = None


class ResponseFormat(BaseModel):
    """What the answer must be: any text, a JSON object, or JSON that a schema allows."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _check_schema(self) -> Self:
        if (self.json_schema is not None) != (self.type == "json_schema"):
            raise ValueError("the type json_schema needs json_schema, and no other type has it")
        return self


class SamplingRequest(GenerationRequest):
    """What chat and text completions share here."""

    model_config = ConfigDict(strict=True)

    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] = 1
    top_k: Annotated[int, Field(ge=0, lt=2**31)] = 0
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    repetition_penalty: Annotated[float, Field(ge=0.01, le=10)] = 1.0
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    logit_bias: dict[
        Annotated[str, Field(pattern=r"^[0-9]{1,9}$")], Annotated[float, Field(ge=-100, le=100)]
    ] = Field(default_factory=dict, max_length=MAX_BIASES)
    ignore_eos: bool = False
    """Keep generating past the model's end-of-sequence token."""
    min_tokens: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """No end before this many tokens, neither by the model's nor by stop strings or tokens."""
    stop_token_ids: list[Annotated[int, Field(ge=0, lt=2**31)]] = Field(
        default_factory=list, max_length=64
    )
    cache_salt: Annotated[str, Field(max_length=256)] = ""
    """Prefix-cache blocks are shared only among requests with the same salt."""
    response_format: ResponseFormat | None = None
    user: Annotated[str, Field(max_length=256)] = ""
    """Whom the scheduler is fair to, unless the tenant header says."""

    @model_validator(mode="after")
    def _check_min_tokens(self) -> Self:
        if self.token_limit is not None and self.min_tokens > self.token_limit:
            raise ValueError("min_tokens exceeds the token limit")
        return self

    @property
    def schema_wanted(self) -> Schema | None:
        """The JSON schema of the answer; None for any text."""
        wanted = self.response_format
        if wanted is None or wanted.type == "text":
            return None
        return wanted.json_schema.schema_ if wanted.json_schema is not None else ANY_OBJECT

    @property
    def token_limit(self) -> int | None:
        """Most tokens to generate; None for what the context allows."""
        return self.max_tokens

    @property
    def logprobs_wanted(self) -> int | None:
        """Alternatives to report with each token; None for no log probabilities."""
        return None


class ChatRequest(SamplingRequest):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int | None, Field(ge=1)] = None
    logprobs: bool = False
    top_logprobs: Annotated[int | None, Field(ge=0, le=20)] = None
    tools: Annotated[list[Tool] | None, Field(min_length=1, max_length=MAX_TOOLS)] = None
    tool_choice: Literal["none", "auto", "required"] | ToolName | None = None
    """Unset, "auto" where there are tools. With "none" the model is not shown them."""
    parallel_tool_calls: bool = True
    """Whether one answer may make several calls."""

    @model_validator(mode="after")
    def _check_pairs(self) -> Self:
        both = self.max_tokens is not None and self.max_completion_tokens is not None
        if both and self.max_tokens != self.max_completion_tokens:
            raise ValueError("max_tokens and max_completion_tokens differ; send one of them")
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs is only allowed when logprobs is true")
        return self

    @model_validator(mode="after")
    def _check_tools(self) -> Self:
        names = [tool.function.name for tool in self.tools or ()]
        if len(set(names)) < len(names):
            raise ValueError("two tools have the same name")
        if self.tool_choice not in (None, "none") and not names:
            raise ValueError("tool_choice needs tools")
        if isinstance(self.tool_choice, ToolName) and self.tool_choice.function.name not in names:
            raise ValueError(f"tools has no function {self.tool_choice.function.name!r}")
        if self.offered_tools and self.schema_wanted is not None:
            raise ValueError("response_format and tools exclude each other; send one of them")
        return self

    @property
    def offered_tools(self) -> list[Tool]:
        """The tools that the model is shown."""
        return [] if self.tool_choice == "none" else self.tools or []

    @property
    def token_limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def logprobs_wanted(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None


class TextRequest(SamplingRequest):
    """`POST /v1/completions`."""

    prompt: (
        Text
        | TokenIds
        | Annotated[list[Text], Field(min_length=1, max_length=MAX_CHOICES)]
        | Annotated[list[TokenIds], Field(min_length=1, max_length=MAX_CHOICES)]
    )
    logprobs: Annotated[int | None, Field(ge=0, le=20)] = None

    @property
    def prompts(self) -> list[str] | list[list[int]]:
        """The prompts as a list, each a text or token ids."""
        prompt = self.prompt
        if isinstance(prompt, str):
            return [prompt]
        if isinstance(prompt[0], int):
            return [prompt]
        return prompt

    @property
    def logprobs_wanted(self) -> int | None:
        return self.logprobs


class TokenizeRequest(BaseModel):
    """`POST /tokenize`: a text, or a conversation as the model would see it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    model: Annotated[str, Field(min_length=1, max_length=256)]
    prompt: str | None = None
    messages: Annotated[list[Message] | None, Field(min_length=1)] = None
    add_special_tokens: bool = True
    """Only for `prompt`: a conversation's template brings its own."""

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("send either prompt or messages")
        return self
