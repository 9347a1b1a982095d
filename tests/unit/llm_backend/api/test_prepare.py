from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llm_backend.api import prepare
from llm_backend.api.types import ChatRequest, TextRequest, TokenizeRequest
from llm_backend.errors import ContextLengthError, InvalidRequestError
from llm_backend.models.tokenizer import Tokenizer
from llm_backend.runtime import ipc
from tests.support.tiny_model import write_tiny_model

READY = ipc.Ready(100, 10, 16, "hash", vocab_size=300)
CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "a"}]}


def text(**fields: Any) -> TextRequest:
    return TextRequest(model="m", **{"prompt": "a", **fields})


def submits(wanted: TextRequest, prompts: list[list[int]], salt: str = "") -> list[ipc.Submit]:
    return prepare.submits(
        wanted, prompts, prefix="id", ready=READY, tenant="t", deadline_s=9.0, salt=salt
    )


def test_n_choices_of_each_prompt_have_ids_and_seeds_of_their_own() -> None:
    made = submits(text(n=2, seed=5), [[1], [2]])
    assert [(s.request_id, s.prompt_ids, s.sampling.seed) for s in made] == [
        ("id-0", [1], 5),
        ("id-1", [1], 6),
        ("id-2", [2], 5),
        ("id-3", [2], 6),
    ]
    assert {(s.tenant, s.deadline_s) for s in made} == {("t", 9.0)}


def test_every_sampling_field_arrives() -> None:
    wanted = text(
        temperature=0.5,
        top_p=0.9,
        top_k=7,
        min_p=0.1,
        repetition_penalty=1.1,
        presence_penalty=0.2,
        frequency_penalty=0.3,
        seed=3,
        stop_token_ids=[8],
        ignore_eos=True,
        min_tokens=2,
        logit_bias={"5": -1.5},
        logprobs=4,
        cache_salt="s",
    )
    assert submits(wanted, [[1]])[0].sampling == ipc.SamplingParams(
        0.5, 0.9, 7, 0.1, 1.1, 0.2, 0.3, 3, (8,), True, 2, ((5, -1.5),), 4
    )
    assert submits(wanted, [[1]])[0].cache_salt == "s"


def test_no_request_can_name_the_salt_of_another_tenant() -> None:
    one, other = text(cache_salt="s"), text(cache_salt="acme")
    salts = [
        submits(one, [[1]], salt="acme"),
        submits(one, [[1]], salt="zeta"),
        submits(text(), [[1]], salt="acme"),
        submits(other, [[1]], salt="zeta"),
        submits(other, [[1]]),
    ]
    assert len({made[0].cache_salt for made in salts}) == len(salts)


def test_defaults_are_openai_s() -> None:
    assert prepare.sampling(text(), 0, 300) == ipc.SamplingParams(temperature=1.0)


@pytest.mark.parametrize(("wanted", "limit"), [(None, 90), (5, 5), (90, 90)])
def test_token_limit(wanted: int | None, limit: int) -> None:
    assert prepare.token_limit(10, wanted, 100) == limit


@pytest.mark.parametrize(("prompt", "wanted"), [(100, None), (101, None), (10, 91)])
def test_what_does_not_fit(prompt: int, wanted: int | None) -> None:
    with pytest.raises(ContextLengthError, match=str(prompt)):
        prepare.token_limit(prompt, wanted, 100)


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"logit_bias": {"300": 1}}, "logit_bias"), ({"stop_token_ids": [300]}, "stop_token_ids")],
)
def test_tokens_beyond_the_vocabulary(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        submits(text(**fields), [[1]])
    assert caught.value.param == param


def test_a_prompt_without_tokens() -> None:
    with pytest.raises(InvalidRequestError, match="no tokens"):
        submits(text(), [[1], []])


def test_prompts_of_every_form(tmp_path: Path) -> None:
    tokenizer = Tokenizer(write_tiny_model(tmp_path))
    a, b = tokenizer.encode("a"), tokenizer.encode("b")
    for prompt, expected in [("a", [a]), (a, [a]), (["a", "b"], [a, b]), ([a, b], [a, b])]:
        assert prepare.text_prompts(text(prompt=prompt), tokenizer, 300, 9) == expected


def test_a_text_that_cannot_fit_is_not_tokenised(tmp_path: Path) -> None:
    tokenizer = Tokenizer(write_tiny_model(tmp_path))
    long = "x" * (10 * tokenizer.longest_token)
    with pytest.raises(ContextLengthError, match="at least 10 tokens"):
        prepare.text_prompts(text(prompt=long), tokenizer, 300, 9)
    conversation = {"model": "m", "messages": [{"role": "user", "content": long}]}
    messages = ChatRequest.model_validate(conversation).messages
    with pytest.raises(ContextLengthError, match="at least 10 tokens"):
        prepare.chat_prompt(messages, tokenizer, max_model_len=9)


def test_developer_is_system() -> None:
    wanted = ChatRequest(model="m", messages=[{"role": "developer", "content": "x"}])  # type: ignore[list-item]
    assert wanted.messages[0].for_template() == {"role": "system", "content": "x"}


def test_parts_are_joined() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    wanted = ChatRequest.model_validate(
        {"model": "m", "messages": [{"role": "user", "content": parts}]}
    )
    assert wanted.messages[0].for_template()["content"] == "ab"


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 0},
        {"n": 65},
        {"top_p": 0},
        {"temperature": float("nan")},
        {"temperature": 2.1},
        {"max_tokens": "5"},
        {"max_tokens": True},
        {"logit_bias": {"x": 1}},
        {"logit_bias": {"1": 101}},
        {"repetition_penalty": 0},
        {"repetition_penalty": 1e-40},
        {"min_tokens": 5, "max_tokens": 4},
        {"max_tokens": 3, "max_completion_tokens": 4},
        {"top_logprobs": 1},
        {"stream_options": {"include_usage": True}},
        {"response_format": {"type": "json_schema"}},
        {"tools": []},
    ],
)
def test_wrong_chat_fields(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ChatRequest.model_validate({**CHAT, **fields})


def test_tokenize_takes_one_of_two() -> None:
    for fields in ({}, {"prompt": "a", "messages": CHAT["messages"]}):
        with pytest.raises(ValidationError, match="either prompt or messages"):
            TokenizeRequest.model_validate({"model": "m", **fields})
