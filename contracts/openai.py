"""OpenAI wire types: the part of the API that both sides of Isthmus speak.

Requests forbid unknown fields, so that nothing is accepted and then ignored: a field is declared
here only when the LLM service honours it. Responses and chunks tolerate unknown fields, since the
service on the other end may be vLLM, TGI or an external API.

Source: https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("half of a surrogate pair is no character") from error
    return text


Text = Annotated[str, AfterValidator(_encodable)]
"""What every encoding can write. JSON can spell half a character, as clients do that cut an emoji,
and pydantic lets it through where a field may be something else than a string, too."""
FinishReason = Literal["stop", "length", "content_filter", "tool_calls"]
MAX_STOP_SEQUENCES = 4


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _Response(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class TextPart(_Request):
    """One text element of a message whose content is a list."""

    type: Literal["text"]
    text: Text


class ChatMessage(_Request):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[TextPart]

    @property
    def text(self) -> str:
        """The content as one string."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class StreamOptions(_Request):
    """Options of a streamed response."""

    include_usage: bool = False


class GenerationRequest(_Request):
    """What chat and text completion requests share."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    max_tokens: Annotated[int | None, Field(ge=1)] = None
    temperature: Annotated[float | None, Field(ge=0, le=2)] = None
    top_p: Annotated[float | None, Field(gt=0, le=1)] = None
    seed: Annotated[int | None, Field(ge=-(2**63), lt=2**63)] = None
    n: Annotated[int, Field(ge=1, le=1)] = 1
    """Answers wanted. Some clients say 1 where they mean the default."""
    stop: Text | list[Text] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None

    @model_validator(mode="after")
    def _check(self) -> GenerationRequest:
        if len(self.stop_sequences) > MAX_STOP_SEQUENCES:
            raise ValueError(f"at most {MAX_STOP_SEQUENCES} stop sequences are allowed")
        if not all(self.stop_sequences):
            raise ValueError("a stop sequence cannot be empty")
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is only allowed when stream is true")
        return self

    @property
    def stop_sequences(self) -> list[str]:
        """`stop` as a list, empty when there is none."""
        if self.stop is None:
            return []
        return [self.stop] if isinstance(self.stop, str) else list(self.stop)

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a chunk that carries the token counts."""
        return self.stream_options is not None and self.stream_options.include_usage


class ChatCompletionRequest(GenerationRequest):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: Annotated[int | None, Field(ge=1)] = None

    @model_validator(mode="after")
    def _check_limits(self) -> ChatCompletionRequest:
        both = self.max_tokens is not None and self.max_completion_tokens is not None
        if both and self.max_tokens != self.max_completion_tokens:
            raise ValueError("max_tokens and max_completion_tokens differ; send one of them")
        return self

    @property
    def token_limit(self) -> int | None:
        """The number of tokens that may be generated, or None for what the context allows."""
        return self.max_completion_tokens or self.max_tokens


class CompletionRequest(GenerationRequest):
    """`POST /v1/completions`."""

    prompt: Annotated[str, Field(min_length=1)]

    @property
    def token_limit(self) -> int | None:
        """The number of tokens that may be generated, or None for what the context allows."""
        return self.max_tokens


class PromptTokensDetails(_Response):
    """What the prompt's tokens were."""

    cached_tokens: int = 0
    """Those that the prefix cache saved computing."""


class Usage(_Response):
    """Exact token counts of one request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails | None = None

    @classmethod
    def of(
        cls, prompt_tokens: int, completion_tokens: int, cached_tokens: int | None = None
    ) -> Usage:
        """Return the counts with their sum; `cached_tokens` is None where it is not known."""
        cached = cached_tokens is not None
        return cls(
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            total_tokens=prompt_tokens + completion_tokens,
            prompt_tokens_details=PromptTokensDetails(cached_tokens=cached_tokens or 0)
            if cached
            else None,
        )


class AssistantMessage(_Response):
    """The answer of a chat completion."""

    role: Literal["assistant"] = "assistant"
    content: str | None = None


class ChatChoice(_Response):
    """One answer, whole."""

    index: int = 0
    message: AssistantMessage
    finish_reason: FinishReason


class ChatCompletion(_Response):
    """The response to a chat completion that is not streamed."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage | None = None


class CalledFunctionDelta(_Response):
    """What one chunk adds to the call of a function."""

    name: str | None = None
    arguments: str | None = None


class ToolCallDelta(_Response):
    """What one chunk adds to the tool call with this index."""

    index: int = 0
    id: str | None = None
    function: CalledFunctionDelta | None = None


class ChatDelta(_Response):
    """What one chunk adds to the answer."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    tool_calls: list[ToolCallDelta] | None = None


class ChatChunkChoice(_Response):
    """One answer's part in a chunk."""

    index: int = 0
    delta: ChatDelta
    finish_reason: FinishReason | None = None


class ChatCompletionChunk(_Response):
    """One frame of a streamed chat completion."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: Usage | None = None


class CompletionChoice(_Response):
    """One answer of a text completion, whole or a part of it when streamed."""

    index: int = 0
    text: str
    finish_reason: FinishReason | None = None


class Completion(_Response):
    """The response to a text completion, and each of its chunks when streamed."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None = None


class Model(_Response):
    """One model that a service answers for."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    max_model_len: int | None = None
    """Context length in tokens, prompt and answer together; the name is vLLM's."""


class ModelList(_Response):
    """`GET /v1/models`."""

    object: Literal["list"] = "list"
    data: list[Model]
