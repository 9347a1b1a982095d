"""What the mock LLM says: deterministic answers that quote the passages given. Pure functions.

A token is a run of non-space characters with the spaces before it, so counts are exact and the
tokens' concatenation is the text.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from contracts.openai import Usage
from contracts.tools import Tool

_REWRITE = re.compile(r"Rewrite this follow-up question.*?\n\n(.+)\Z", re.DOTALL)
_SPLIT = re.compile(r"Split this question into.*?\n\n(.+)\Z", re.DOTALL)
_ASKED = re.compile(r"^user: (.+)$", re.MULTILINE)
NO_PASSAGES = "No passages were given, so the mock model can only repeat the question: "

_TOKEN = re.compile(r"\s*\S+|\s+")
_WORD = re.compile(r"\w+")
_PASSAGE = re.compile(r'<passage id="(\d+)"[^>]*>(.*?)</passage>', re.DOTALL)
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")  # a point inside a word ends nothing


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: its tokens, why it ends, and how many tokens the prompt had."""

    tokens: tuple[str, ...]
    finish_reason: Literal["stop", "length"]
    prompt_tokens: int

    @property
    def text(self) -> str:
        return "".join(self.tokens)

    @property
    def usage(self) -> Usage:
        return Usage.of(self.prompt_tokens, len(self.tokens))


def tokenize(text: str) -> list[str]:
    """Split `text` into the mock's tokens; their concatenation is `text`."""
    return _TOKEN.findall(text)


def compose(prompts: Sequence[str]) -> str:
    """Return the mock's answer to a conversation, whose last element is the question.

    As an instructed model would, it makes a follow-up stand alone, and splits a question at "and".
    """
    if follow_up := _REWRITE.search(prompts[-1]):
        asked = _ASKED.findall(prompts[-1])
        return " ".join([*(word.rstrip(" ?.") for word in asked[-1:]), follow_up[1]])
    if whole := _SPLIT.search(prompts[-1]):
        parts = re.split(r",? and ", whole[1].rstrip("?"))
        return "\n".join(f"{part[0].upper()}{part[1:]}?" for part in parts)
    passages = [match for prompt in prompts for match in _PASSAGE.findall(prompt)]
    question = _PASSAGE.sub("", prompts[-1]).strip()
    best = max(_candidates(passages, question), default=None, key=lambda c: c[0])
    if best is None:
        return NO_PASSAGES + question
    _, number, sentence = best
    return f"{sentence} [{number}]"


def _candidates(
    passages: Iterable[tuple[str, str]], question: str
) -> Iterator[tuple[int, str, str]]:
    """Yield (words shared with the question, passage number, sentence)."""
    wanted = {word.lower() for word in _WORD.findall(question)}
    for number, text in passages:
        for sentence in _SENTENCE.split(text):
            if sentence.strip():
                words = {word.lower() for word in _WORD.findall(sentence)}
                yield len(words & wanted), number, " ".join(sentence.split())


def answer(
    prompts: Sequence[str],
    *,
    max_model_len: int,
    answer_tokens: int = 0,
    repeat: bool = False,
    token_limit: int | None = None,
    stop: Sequence[str] = (),
) -> Answer:
    """Return the deterministic answer to `prompts`, whose last element is the question.

    Args:
        max_model_len: context length, tokens.
        answer_tokens: cut the answer to this many tokens, or count on from its end up to them; 0
            leaves it as it comes.
        repeat: say the answer again and again up to the token limit, as small models do.
        token_limit: the most tokens to generate; None for what the context allows.
        stop: strings before the first of which the answer ends.

    Raises:
        ContextLengthError: prompt and answer do not fit `max_model_len`.
    """
    prompt_tokens = sum(len(tokenize(prompt)) for prompt in prompts)
    room = max_model_len - prompt_tokens
    if room < (token_limit or 1):
        raise ContextLengthError(prompt_tokens, token_limit or 1, max_model_len)
    tokens = tokenize(compose(prompts))
    limit = token_limit or room
    if answer_tokens:
        counting = (f" token{number}" for number in itertools.count(1))
        tokens = list(itertools.islice(itertools.chain(tokens, counting), answer_tokens))
    if repeat:
        tokens = list(itertools.islice(itertools.cycle([*tokens, "\n"]), limit + 1))
    tokens = _cut_at_stop(tokens, stop)
    reason: Literal["stop", "length"] = "length" if len(tokens) > limit else "stop"
    return Answer(tuple(tokens[:limit]), reason, prompt_tokens)


def tool_calls(tools: Sequence[Tool], question: str) -> list[dict[str, Any]]:
    """Return the mock's calls, as they stand in a chunk: of each tool that is about the question.

    A tool is, if its name or description shares a word of four letters with it. Every argument that
    is required gets the question, or 1 where it is no string.
    """
    asked = _long_words(question)
    chosen = [
        t.function
        for t in tools
        if asked & _long_words(f"{t.function.name} {t.function.description}")
    ]
    return [
        {
            "index": i,
            "id": f"call_{i}",
            "type": "function",
            "function": {
                "name": f.name,
                "arguments": json.dumps(_arguments(f.parameters, question)),
            },
        }
        for i, f in enumerate(chosen)
    ]


def _long_words(text: str) -> set[str]:
    return {word for word in re.findall(r"[a-z]+", text.lower()) if len(word) >= 4}


def _arguments(parameters: dict[str, Any], question: str) -> dict[str, Any]:
    properties = parameters.get("properties", {})
    return {
        name: question if properties.get(name, {}).get("type") == "string" else 1
        for name in parameters.get("required", ())
    }


def _cut_at_stop(tokens: list[str], stop: Sequence[str]) -> list[str]:
    text = "".join(tokens)
    ends = [at for at in map(text.find, stop) if at >= 0]
    return tokenize(text[: min(ends)]) if ends else tokens


class ContextLengthError(ValueError):
    """The prompt, or prompt and answer, exceed the context length."""

    def __init__(self, prompt_tokens: int, answer_tokens: int, max_model_len: int) -> None:
        super().__init__(
            f"The prompt has {prompt_tokens} tokens and {answer_tokens} more were asked for, but "
            f"the model's context length is {max_model_len}. Shorten the prompt or max_tokens."
        )
