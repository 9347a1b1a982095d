"""Random logits under a grammar: whatever the model says, the answer validates."""

from __future__ import annotations

import json
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

import jsonschema
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import models

from contracts.errors import Code
from llm_backend.engine import grammar
from llm_backend.engine.engine import Engine
from llm_backend.engine.guide import Guide, GuideCompiler, GuideError
from llm_backend.engine.kv_cache import BlockPool
from llm_backend.engine.plan import StepPlan
from llm_backend.engine.sampler import Floats, TokenSampler
from llm_backend.engine.scheduler import Limits, Scheduler
from llm_backend.models.tokenizer import Tokenizer
from llm_backend.runtime.ipc import Output, Rejected, SamplingParams, Submit
from tests.support.tiny_model import write_tiny_model

VOCAB = 300  # a model's logits are often wider than its tokenizer
EOS = frozenset([0, 5])
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 4}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def tokenizer(directory: Path) -> Tokenizer:
    return Tokenizer(directory)


class RandomModel:
    """Says anything, but likes the characters that end things, so that answers are short."""

    def __init__(self, seed: int, likes: list[int]) -> None:
        self._random = np.random.default_rng(seed)
        self._likes = likes

    def run(self, plan: StepPlan) -> Floats:
        logits = self._random.normal(size=(int(plan.samples.sum()), VOCAB)).astype(np.float32)
        logits[:, self._likes] += 4
        return logits


@pytest.fixture(scope="module")
def compiler(directory: Path) -> GuideCompiler:
    return GuideCompiler(directory / "tokenizer.json", VOCAB, EOS)


class World:
    def __init__(self, compiler: Any, tokenizer: Tokenizer, seed: int = 0) -> None:
        self.now = 0.0
        self.tokenizer = tokenizer
        self.pool = BlockPool(40, 8)
        self.engine: Engine[Floats] = Engine(
            Scheduler(self.pool, Limits(4, 16)),
            RandomModel(seed, tokenizer.encode('"}],')),
            TokenSampler(EOS, b"s"),
            eos_token_ids=EOS,
            max_model_len=320,
            vocab_size=VOCAB,
            guides=compiler,
            clock=lambda: self.now,
        )

    def submit(self, name: str, text: str, max_tokens: int = 300, **sampling: Any) -> None:
        params = SamplingParams(**sampling)
        request = Submit(name, [70, 71], params, max_tokens, deadline_s=60.0, grammar=text)
        assert self.engine.submit(request) is None

    def drain(self) -> dict[str, tuple[str, str]]:
        """Return the text and the reason of each answer's end, or the refusal and its code."""
        tokens: dict[str, list[int]] = {}
        ends: dict[str, tuple[str, str]] = {}
        while self.engine.has_work:
            for result in self.engine.step():
                name = result.request_id
                if isinstance(result, Rejected):
                    ends[name] = (result.message, result.code)
                    continue
                assert isinstance(result, Output)
                new = result.token_ids[:-1] if result.stop_token else result.token_ids
                tokens.setdefault(name, []).extend(new)
                if result.finish_reason:
                    ends[name] = (self.tokenizer.decode(tokens[name]), result.finish_reason)
        return ends


LEAVES = st.sampled_from(
    [
        {"type": "boolean"},
        {"type": "null"},
        {"const": 'a "b" é'},
        {"enum": ["x", 1, None, [2]]},
        {"type": "integer", "minimum": -3, "maximum": 120},
        {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        {"type": "string", "maxLength": 3},
        {"type": "string", "pattern": "^[a-c]{2,4}$"},
        {"type": "string", "format": "date"},
        {"type": ["string", "null"], "maxLength": 2},
    ]
)


def _object(properties: dict[str, Any], optional: int) -> dict[str, Any]:
    required = list(properties)[optional:]
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(
            _object,
            st.dictionaries(st.sampled_from(["a", "b ", 'c"', "é"]), inner, max_size=3),
            st.integers(0, 2),
        ),
        st.builds(lambda items: {"type": "array", "items": items, "maxItems": 2}, inner),
        st.builds(lambda one, two: {"anyOf": [one, two]}, inner, inner),
    ),
    max_leaves=4,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(schemas=st.lists(SCHEMAS, min_size=1, max_size=5), seed=st.integers(0, 2**32))
def test_answers_validate_whatever_the_logits(
    compiler: GuideCompiler, tokenizer: Tokenizer, schemas: list[dict[str, Any]], seed: int
) -> None:
    world = World(compiler, tokenizer, seed)
    for i, schema in enumerate(schemas):
        text = grammar.from_schema(schema)
        assert grammar.problem_with(text) is None
        world.submit(str(i), text, temperature=i % 2, seed=seed + i, top_p=0.95)
    for name, (answer, reason) in world.drain().items():
        assert reason in ("stop", "length")
        if reason == "stop":
            validate(json.loads(answer), schemas[int(name)])
    assert world.pool.num_free == 40


def validate(value: object, schema: dict[str, Any]) -> None:
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.Draft202012Validator(schema, format_checker=checker).validate(value)


def test_most_answers_end_by_themselves(compiler: GuideCompiler, tokenizer: Tokenizer) -> None:
    """Else the property above would hold for want of answers."""
    world = World(compiler, tokenizer)
    for i in range(12):
        world.submit(str(i), grammar.from_schema(PERSON), temperature=1.0, seed=i)
    ends = world.drain()
    assert [reason for _, reason in ends.values()].count("stop") >= 10
    assert len({answer for answer, _ in ends.values()}) > 5


def test_max_tokens_cuts_and_says_so(compiler: GuideCompiler, tokenizer: Tokenizer) -> None:
    world = World(compiler, tokenizer)
    world.submit("r", grammar.from_schema(PERSON), max_tokens=3)
    answer, reason = world.drain()["r"]
    assert reason == "length"
    assert answer.startswith("{")


def test_a_complete_answer_needs_no_end_of_sequence(
    compiler: GuideCompiler, tokenizer: Tokenizer
) -> None:
    world = World(compiler, tokenizer)
    world.submit("r", grammar.from_schema({"const": "ab"}))
    assert world.drain()["r"] == ('"ab"', "stop")
    assert world.engine.stats().generated_tokens == 4


def test_the_end_of_sequence_is_allowed_only_where_the_answer_may_end(
    compiler: GuideCompiler, tokenizer: Tokenizer
) -> None:
    guide = compiler.compile(grammar.from_schema({"type": "integer"})).result(30)
    assert not guide.allowed[list(EOS)].any()
    assert not guide.advance(tokenizer.encode("7")[0])
    assert guide.allowed[list(EOS)].all()


def test_guides_of_one_grammar_do_not_share_their_state(
    compiler: GuideCompiler, tokenizer: Tokenizer
) -> None:
    text = grammar.from_schema({"enum": ["ab", "cd"]})
    first, second = (compiler.compile(text).result(30) for _ in "ab")
    before = second.allowed.copy()
    first.advance(tokenizer.encode('"')[0])
    assert (second.allowed == before).all()
    with pytest.raises(GuideError):
        second.advance(tokenizer.encode("x")[0])


def test_a_wrong_grammar_is_refused(compiler: GuideCompiler, tokenizer: Tokenizer) -> None:
    world = World(compiler, tokenizer)
    world.submit("r", "start: missing")
    message, code = world.drain()["r"]
    assert code == Code.INVALID_REQUEST
    assert "missing" in message


def write_word_level(directory: Path) -> Path:
    """Write a tokenizer whose decoder llguidance does not know."""
    file = directory / "words.json"
    FastTokenizer(models.WordLevel({"<eos>": 0, "a": 1}, unk_token="a")).save(str(file))
    return file


@pytest.mark.parametrize(
    ("words", "vocab_size", "why"), [(True, VOCAB, "decoder type"), (False, 100, "100 vs 262")]
)
def test_a_tokenizer_that_llguidance_cannot_use_costs_the_guided_requests_only(
    directory: Path, tmp_path: Path, tokenizer: Tokenizer, words: bool, vocab_size: int, why: str
) -> None:
    file = write_word_level(tmp_path) if words else directory / "tokenizer.json"
    world = World(GuideCompiler(file, vocab_size, EOS), tokenizer)
    for name in ("first", "second"):
        world.submit(name, grammar.from_schema(PERSON))
    world.engine.submit(Submit("free", [9], SamplingParams(ignore_eos=True), 4))
    ends = world.drain()
    assert ends["free"][1] == "length"
    for name in ("first", "second"):
        assert why in ends[name][0]
        assert ends[name][1] == Code.INVALID_REQUEST


class SlowCompiler:
    """Compiles when it is told to."""

    def __init__(self) -> None:
        self.promised: list[Future[Guide]] = []

    def compile(self, _: str) -> Future[Guide]:
        self.promised.append(Future())
        return self.promised[-1]


@pytest.fixture
def slow(tokenizer: Tokenizer) -> tuple[World, SlowCompiler]:
    compiler = SlowCompiler()
    return World(compiler, tokenizer), compiler


def test_a_slow_compiler_does_not_stall_the_others(
    slow: tuple[World, SlowCompiler], compiler: GuideCompiler
) -> None:
    world, slow_compiler = slow
    world.submit("guided", "later")
    world.engine.submit(Submit("free", [9], SamplingParams(ignore_eos=True), 4))
    assert [len(world.engine.step()) for _ in range(4)] == [1, 1, 1, 1]
    assert world.engine.step() == []  # waits a moment, without work
    assert world.engine.has_work
    text = grammar.from_schema({"const": 1})
    slow_compiler.promised[0].set_result(compiler.compile(text).result(30))
    assert world.drain()["guided"] == ("1", "stop")


class Tangled:
    """Allows everything once, then finds it too complex."""

    allowed = np.ones(VOCAB, dtype=np.bool_)

    def advance(self, _: int) -> bool:
        raise GuideError("too many states")


def test_an_answer_that_gets_too_complex_is_ended_and_others_go_on(
    slow: tuple[World, SlowCompiler],
) -> None:
    world, slow_compiler = slow
    world.submit("bad", "tangled")
    world.engine.submit(Submit("free", [9], SamplingParams(ignore_eos=True), 4))
    slow_compiler.promised[0].set_result(cast("Guide", Tangled()))
    ends = world.drain()
    assert ends["free"][1] == "length"
    assert ends["bad"][1] == Code.INVALID_REQUEST
    assert "too many states" in ends["bad"][0]


def test_while_its_grammar_compiles_a_request_can_be_cancelled_or_expire(
    slow: tuple[World, SlowCompiler],
) -> None:
    world, _ = slow
    world.submit("cancelled", "later")
    world.submit("late", "later")
    world.engine.cancel("cancelled")
    world.now = 61.0
    [rejected] = world.engine.step()
    assert isinstance(rejected, Rejected)
    assert (rejected.request_id, rejected.code) == ("late", Code.REQUEST_TIMEOUT)
    assert not world.engine.has_work


def test_an_engine_without_a_tokenizer_refuses(tokenizer: Tokenizer) -> None:
    world = World(None, tokenizer)
    rejected = world.engine.submit(Submit("r", [9], SamplingParams(), 4, grammar="start: /a/"))
    assert rejected is not None
    assert rejected.code == Code.UNSUPPORTED_FIELD
