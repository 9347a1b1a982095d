"""From a request to the sequences that the engine is to generate. Decides; sends nothing."""

from __future__ import annotations

from collections.abc import Sequence

from contracts.tools import Message, Tool
from llm_backend.api.types import SamplingRequest, TextRequest
from llm_backend.errors import ContextLengthError, InvalidRequestError, UnsupportedFieldError
from llm_backend.models.tokenizer import Tokenizer
from llm_backend.runtime import ipc


def chat_prompt(
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    tools: Sequence[Tool] = (),
    *,
    max_model_len: int | None = None,
) -> list[int]:
    """Return the prompt of a conversation.

    Args:
        max_model_len: tokens; a text that cannot fit is refused before it is tokenised.

    Raises:
        ContextLengthError: it cannot fit.
        InvalidRequestError: the model's chat template refuses the messages.
        UnsupportedFieldError: it knows no tools, or writes calls in an unknown form.
    """
    if tools:
        _check_tool_support(tokenizer)
    for i, message in enumerate(messages):
        if message.about_tools and not tokenizer.takes_tools:
            raise UnsupportedFieldError(
                "This model's chat template knows no tool calls.", f"messages[{i}]"
            )
    offered = [
        {"type": "function", "function": tool.function.model_dump(exclude={"strict"})}
        for tool in tools
    ]
    text = tokenizer.render_chat([message.for_template() for message in messages], offered)
    _check_size(text, tokenizer, max_model_len)
    return tokenizer.encode(text, special_tokens=False)


def _check_tool_support(tokenizer: Tokenizer) -> None:
    if not tokenizer.takes_tools:
        raise UnsupportedFieldError(
            "This model's chat template has no tools; send the request without them.", "tools"
        )
    if tokenizer.tool_format is None:
        raise UnsupportedFieldError(
            "This model writes tool calls in a form that this service cannot read; send the "
            "request without tools.",
            "tools",
        )


def text_prompts(
    wanted: TextRequest, tokenizer: Tokenizer, vocab_size: int, max_model_len: int
) -> list[list[int]]:
    """Return the prompts of a text completion.

    Raises:
        InvalidRequestError: a token id is not in the vocabulary.
        ContextLengthError: a text cannot fit `max_model_len` tokens.
    """
    prompts = []
    for given in wanted.prompts:
        if isinstance(given, str):
            _check_size(given, tokenizer, max_model_len)
        prompt = tokenizer.encode(given) if isinstance(given, str) else given
        _check_ids(prompt, vocab_size, "prompt")
        prompts.append(prompt)
    return prompts


def _check_size(text: str, tokenizer: Tokenizer, max_model_len: int | None) -> None:
    """Refuse a text that is too long whatever its tokens: tokenising megabytes takes seconds."""
    least = len(text) // tokenizer.longest_token
    if max_model_len is not None and least > max_model_len:
        raise ContextLengthError(
            f"The prompt has at least {least} tokens, but the model's context length is "
            f"{max_model_len}. Shorten the prompt."
        )


def submits(
    wanted: SamplingRequest,
    prompts: Sequence[list[int]],
    *,
    prefix: str,
    ready: ipc.Ready,
    tenant: str,
    deadline_s: float,
    grammar: str = "",
    salt: str = "",
) -> list[ipc.Submit]:
    """Return the sequences to generate: `n` for each prompt, in the order of the choices.

    Args:
        prefix: what their request ids begin with.
        ready: limits of the engine.
        grammar: what each answer is held to; empty for any text.
        salt: cached prefixes are shared only with requests of the same one, whatever they ask for.

    Raises:
        InvalidRequestError: a limit or token id is out of the engine's range.
    """
    made: list[ipc.Submit] = []
    for prompt in prompts:
        if not prompt:
            raise InvalidRequestError("The prompt has no tokens; send some text.")
        limit = token_limit(len(prompt), wanted.token_limit, ready.max_model_len)
        for choice in range(wanted.n):
            made.append(
                ipc.Submit(
                    request_id=f"{prefix}-{len(made)}",
                    prompt_ids=prompt,
                    sampling=sampling(wanted, choice, ready.vocab_size),
                    max_tokens=limit,
                    tenant=tenant,
                    cache_salt=f"{salt}\0{wanted.cache_salt}" if salt else wanted.cache_salt,
                    deadline_s=deadline_s,
                    grammar=grammar,
                )
            )
    return made


def token_limit(prompt_tokens: int, wanted: int | None, max_model_len: int) -> int:
    """Return how many tokens to generate: what was asked for, else what the context allows.

    Raises:
        ContextLengthError: they do not fit.
    """
    room = max_model_len - prompt_tokens
    if room < (wanted or 1):
        raise ContextLengthError(
            f"The prompt has {prompt_tokens} tokens and {wanted or 1} more were asked for, but "
            f"the model's context length is {max_model_len}. Shorten the prompt or max_tokens."
        )
    return wanted or room


def sampling(wanted: SamplingRequest, choice: int, vocab_size: int) -> ipc.SamplingParams:
    """Return how choice number `choice` of a prompt is sampled.

    An unset temperature is 1, as in OpenAI's API. Each choice has a seed of its own.

    Raises:
        InvalidRequestError: a token id is not in the vocabulary.
    """
    bias = tuple((int(token), value) for token, value in wanted.logit_bias.items())
    _check_ids([token for token, _ in bias], vocab_size, "logit_bias")
    _check_ids(wanted.stop_token_ids, vocab_size, "stop_token_ids")
    return ipc.SamplingParams(
        temperature=1.0 if wanted.temperature is None else wanted.temperature,
        top_p=1.0 if wanted.top_p is None else wanted.top_p,
        top_k=wanted.top_k,
        min_p=wanted.min_p,
        repetition_penalty=wanted.repetition_penalty,
        presence_penalty=wanted.presence_penalty,
        frequency_penalty=wanted.frequency_penalty,
        seed=None if wanted.seed is None else wanted.seed + choice,
        stop_token_ids=tuple(wanted.stop_token_ids),
        ignore_eos=wanted.ignore_eos,
        min_tokens=wanted.min_tokens,
        logit_bias=bias,
        logprobs=wanted.logprobs_wanted,
    )


def _check_ids(ids: Sequence[int], vocab_size: int, param: str) -> None:
    if (beyond := max(ids, default=-1)) >= vocab_size:
        raise InvalidRequestError(
            f"Token id {beyond} is not in the model's vocabulary of {vocab_size}.", param
        )
