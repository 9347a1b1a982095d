from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import decoders, models, pre_tokenizers

from llm_backend.errors import InvalidRequestError, ModelInvalidError
from llm_backend.models.detokenizer import Detokenizer
from llm_backend.models.tokenizer import Tokenizer
from llm_backend.models.tool_format import HERMES
from tests.support.tiny_model import SPECIALS, TOOL_TEMPLATE, write_tiny_model


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer(write_tiny_model(tmp_path_factory.mktemp("tiny")))


@cache
def tiny() -> Tokenizer:
    """One tokenizer for all of Hypothesis's examples, which take no fixtures."""
    with tempfile.TemporaryDirectory() as directory:
        return Tokenizer(write_tiny_model(Path(directory)))


def pieces(detokenizer: Detokenizer, ids: list[int]) -> list[str]:
    return [*map(detokenizer.push, ids), detokenizer.flush()]


@settings(deadline=None)
@given(st.text(max_size=40))
def test_incremental_text_is_the_whole_text(text: str) -> None:
    tokenizer = tiny()
    parts = pieces(tokenizer.detokenizer(), tokenizer.encode(text))
    assert "".join(parts) == text
    assert not any("\ufffd" in part for part in parts) or "\ufffd" in text


@settings(deadline=None)
@given(st.lists(st.integers(0, len(SPECIALS) + 255), max_size=60))
def test_any_ids_decode_as_a_whole_would(ids: list[int]) -> None:
    tokenizer = tiny()
    assert "".join(pieces(tokenizer.detokenizer(), ids)) == tokenizer.decode(ids)


def test_half_a_character_is_held_and_flushed(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("a😀")
    assert pieces(tokenizer.detokenizer(), ids[:-1]) == ["a", "", "", "", "\ufffd"]


def test_broken_bytes_are_not_held_for_ever(tokenizer: Tokenizer) -> None:
    detokenizer, broken = tokenizer.detokenizer(), tokenizer.encode("é")[:1]
    assert any(detokenizer.push(broken[0]) for _ in range(100))


@cache
def sentencepiece() -> FastTokenizer:
    vocabulary = {"<unk>": 0, "▁the": 1, "▁cat": 2, "s": 3, "▁": 4, "<s>": 5}
    fast = FastTokenizer(models.WordLevel(vocab=vocabulary, unk_token="<unk>"))
    fast.pre_tokenizer = pre_tokenizers.Metaspace()
    fast.decoder = decoders.Metaspace()
    fast.add_special_tokens(["<s>"])
    return fast


def test_sentencepiece_keeps_its_spaces() -> None:
    assert pieces(Detokenizer(sentencepiece().decode), [1, 2, 3]) == ["the", " cat", "s", ""]


def test_tokens_without_text_are_not_kept(tokenizer: Tokenizer) -> None:
    longest = 0

    def decode(ids: Sequence[int]) -> str:
        nonlocal longest
        longest = max(longest, len(ids))
        return tokenizer.decode(ids)

    letter = tokenizer.encode("a")
    ids = [*[0] * 200, *letter, *[0, 1] * 200, *letter]
    assert "".join(pieces(Detokenizer(decode), ids)) == "aa"
    assert longest < 5


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), max_size=200))
def test_sentencepiece_with_tokens_that_are_no_text_decodes_as_a_whole_would(
    ids: list[int],
) -> None:
    decode = sentencepiece().decode
    assert "".join(pieces(Detokenizer(decode), ids)) == decode(ids)


def test_special_tokens_are_no_text(tokenizer: Tokenizer) -> None:
    assert pieces(tokenizer.detokenizer(), [6, 0, 7])[1] == ""


def test_chat_template(tokenizer: Tokenizer) -> None:
    messages = [{"role": "system", "content": "ab"}, {"role": "user", "content": "c"}]
    assert tokenizer.decode(tokenizer.encode_chat(messages)) == "abc"


def test_a_template_s_refusal_is_the_client_s_fault(tokenizer: Tokenizer) -> None:
    with pytest.raises(InvalidRequestError, match="the user speaks first"):
        tokenizer.encode_chat([{"role": "assistant", "content": "x"}])


def test_no_template(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path)
    (model / "tokenizer_config.json").unlink()
    bare = Tokenizer(model)
    assert not bare.has_chat_template
    with pytest.raises(InvalidRequestError, match="/v1/completions"):
        bare.encode_chat([{"role": "user", "content": "x"}])


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ m.content | tojson }}{% break %}{% endfor %}",
        [{"name": "default", "template": "{{ messages[0].content | tojson }}"}],
    ],
)
def test_the_template_dialect(tmp_path: Path, template: object) -> None:
    model = write_tiny_model(tmp_path)
    config = {"chat_template": template, "bos_token": {"content": "<s>"}}
    (model / "tokenizer_config.json").write_text(json.dumps(config))
    assert Tokenizer(model).render_chat([{"role": "user", "content": "<é>"}]) == '"<é>"'


def test_a_template_cannot_reach_the_process(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path)
    (model / "chat_template.jinja").write_text("{{ ''.__class__.__mro__ }}")
    with pytest.raises(InvalidRequestError, match="unsafe"):
        Tokenizer(model).encode_chat([])


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("tokenizer.json", "{}", "is not a tokenizer"),
        ("tokenizer_config.json", "nope", "is not valid JSON"),
        ("tokenizer_config.json", "[" * 100_000, "is not valid JSON"),
        ("chat_template.jinja", "{% for %}", "chat template"),
        ("chat_template.jinja", "{{" + "(" * 10_000, "chat template"),
        ("chat_template.jinja", "\xff", "is not UTF-8"),
    ],
)
def test_broken_files(tmp_path: Path, file: str, content: str, message: str) -> None:
    model = write_tiny_model(tmp_path)
    (model / file).write_text(content, "latin-1")
    with pytest.raises(ModelInvalidError, match=message):
        Tokenizer(model)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (5, "is no text"),
        ({"default": "a"}, "is no text"),
        ([{"name": "default", "template": 5}], "is no text"),
        ([{"template": "a"}], "lacks its name"),
        ([{"name": "default"}], "lacks its name"),
        ([{"name": [], "template": "a"}], "lacks its name"),
        (["a"], "lacks its name"),
    ],
)
def test_a_template_of_another_form(tmp_path: Path, template: object, message: str) -> None:
    model = write_tiny_model(tmp_path)
    (model / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    with pytest.raises(ModelInvalidError, match=message):
        Tokenizer(model)


def test_a_template_s_tools_and_how_it_writes_calls(tmp_path: Path, tokenizer: Tokenizer) -> None:
    assert (tokenizer.takes_tools, tokenizer.tool_format) == (False, None)
    other = Tokenizer(write_tiny_model(tmp_path / "other", "{{ tools | tojson }}[TOOL_CALLS]"))
    assert (other.takes_tools, other.tool_format) == (True, None)
    hermes = Tokenizer(write_tiny_model(tmp_path / "hermes", TOOL_TEMPLATE))
    assert hermes.tool_format == HERMES
    call = {"function": {"name": "f", "arguments": {"a": "é"}}}
    turns = [{"role": "assistant", "content": "", "tool_calls": [call]}]
    shown = hermes.render_chat(turns, [{"function": {"name": "f"}}])
    assert shown == 'f|<tool_call>\n{"name": "f", "arguments": {"a": "é"}}\n</tool_call>'


def test_a_marker_that_is_a_special_token_cannot_be_read(tmp_path: Path) -> None:
    """Decoding leaves special tokens out."""
    directory = write_tiny_model(tmp_path, TOOL_TEMPLATE)
    fast = FastTokenizer.from_file(str(directory / "tokenizer.json"))
    fast.add_special_tokens([HERMES.begin])
    fast.save(str(directory / "tokenizer.json"))
    tokenizer = Tokenizer(directory)
    assert (tokenizer.takes_tools, tokenizer.tool_format) == (True, None)


def test_of_named_templates_the_one_with_tools_is_taken(tmp_path: Path) -> None:
    directory = write_tiny_model(tmp_path)
    named = [("default", "a"), ("tool_use", TOOL_TEMPLATE)]
    listed = [{"name": name, "template": template} for name, template in named]
    (directory / "tokenizer_config.json").write_text(json.dumps({"chat_template": listed}))
    assert Tokenizer(directory).tool_format == HERMES


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('no') }}",
        "{{ messages[0].content.nothing.more }}",
        "{{ 1 / (messages | length - 1) }}",
        "{{ messages[0].content + 1 }}",
        "{{ messages[0].content.format_map }}{{ ''.join(5) }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ '%d' % messages[0].content }}",
        "{{ [][3].x }}",
    ],
)
def test_whatever_goes_wrong_in_a_template_is_the_request_s_fault(
    tmp_path: Path, template: str
) -> None:
    tokenizer = Tokenizer(write_tiny_model(tmp_path, template))
    with pytest.raises(InvalidRequestError, match="template refuses"):
        tokenizer.render_chat([{"role": "user", "content": "x"}])
