from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from contracts.openai import Usage
from llm_backend.api.choice import Choice
from llm_backend.api.formats import ChatFormat, TextFormat
from llm_backend.api.stops import StopStrings
from llm_backend.models.tokenizer import Tokenizer
from llm_backend.runtime.ipc import Output, TokenLogprob
from tests.support.tiny_model import write_tiny_model

HEAD = {"id": "x", "created": 1, "model": "m"}


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    return Tokenizer(write_tiny_model(tmp_path))


def outputs(tokenizer: Tokenizer, text: str) -> list[Output]:
    """Return each token of a text, with all of them as alternatives, and the end of sequence."""
    ids = tokenizer.encode(text)
    top = [(token_id, -float(i)) for i, token_id in enumerate(ids)]
    made = [Output("r", [each], logprobs=[TokenLogprob(-1.0, top)]) for each in ids]
    return [*made, Output("r", [0], "stop", 0, [TokenLogprob(-1.0, top)], stop_token=True)]


def answered(
    kind: type[ChatFormat | TextFormat], tokenizer: Tokenizer, text: str, streamed: bool
) -> list[dict[str, Any]]:
    """Return the choices that a client gets: of each frame, or of the body."""
    form = kind(HEAD, 1, tokenizer, logprobs=True)
    choice = Choice(0, tokenizer.detokenizer(), StopStrings([]))
    pieces = [choice.take(output) for output in outputs(tokenizer, text)]
    if streamed:
        frames = [form.content(piece) for piece in pieces]
        return [json.loads(frame.removeprefix(b"data: "))["choices"][0] for frame in frames]
    body = json.loads(form.body([choice], Usage.of(1, choice.completion_tokens, 0)))
    return [body["choices"][0]]


@pytest.mark.parametrize("streamed", [False, True])
def test_bytes_of_a_character_that_is_several_tokens(tokenizer: Tokenizer, streamed: bool) -> None:
    choices = answered(ChatFormat, tokenizer, "a😀", streamed)
    tokens = [token for choice in choices for token in choice["logprobs"]["content"]]
    assert [token["bytes"] for token in tokens[:-1]] == [[97], [240], [159], [152], [128]]
    assert (tokens[-1]["token"], tokens[-1]["bytes"]) == ("<eos>", list(b"<eos>"))
    alternatives = tokens[0]["top_logprobs"]
    assert [each["bytes"] for each in alternatives] == [[97], [240], [159], [152], [128]]


@pytest.mark.parametrize("streamed", [False, True])
def test_offsets_and_alternatives_of_a_text_completion(
    tokenizer: Tokenizer, streamed: bool
) -> None:
    choices = answered(TextFormat, tokenizer, "a😀é!", streamed)
    assert "".join(choice["text"] for choice in choices) == "a😀é!"
    found = [choice["logprobs"] for choice in choices]
    labels = [label for each in found for label in each["tokens"]]
    emoji = [f"bytes:\\x{byte}" for byte in ("f0", "9f", "98", "80")]
    assert labels == ["a", *emoji, "bytes:\\xc3", "bytes:\\xa9", "!", "<eos>"]
    offsets = [offset for each in found for offset in each["text_offset"]]
    assert offsets == [0, 1, 1, 1, 1, 2, 2, 3, 4]
    assert list(found[0]["top_logprobs"][0]) == labels[:-1]


def test_of_alternatives_that_read_the_same_the_likeliest_is_told(tokenizer: Tokenizer) -> None:
    form = TextFormat(HEAD, 1, tokenizer, logprobs=True)
    choice = Choice(0, tokenizer.detokenizer(), StopStrings([]))
    unknown = [(10_000, -1.0), (10_001, -2.0)]  # a model's logits may be wider than its tokenizer
    choice.take(Output("r", [10_000], "length", 0, [TokenLogprob(-1.0, unknown)]))
    body = json.loads(form.body([choice], Usage.of(1, 1, 0)))
    assert body["choices"][0]["logprobs"]["top_logprobs"] == [{"": -1.0}]
