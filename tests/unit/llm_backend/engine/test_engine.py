from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.errors import Code
from llm_backend.engine.sampler import Sampled, SamplingError
from llm_backend.engine.sequence import Sequence
from llm_backend.runtime.ipc import Output, Rejected, SamplingParams, Submit

Reference = Callable[..., list[int]]


def request(name: str, prompt: list[int], max_tokens: int = 8, **more: Any) -> Submit:
    sampling = more.pop("sampling", SamplingParams())
    return Submit(name, prompt, sampling, max_tokens, **more)


def drain(world: Any, limit: int = 5000) -> dict[str, list[int]]:
    """Step until nothing is left; return the tokens of each request."""
    answers: dict[str, list[int]] = {}
    for _ in range(limit):
        if not world.engine.has_work:
            return answers
        for result in world.engine.step():
            answers.setdefault(result.request_id, []).extend(result.token_ids)
    raise AssertionError("the engine never finished")


def test_a_request_is_answered_token_by_token(
    make_world: Callable[..., Any], reference: Reference
) -> None:
    world = make_world()
    world.engine.submit(request("r", [1, 2, 3], max_tokens=3))

    [first] = world.engine.step()

    want = reference([1, 2, 3], 3)
    assert first == Output("r", want[:1])
    assert drain(world)["r"] == want[1:]


def test_the_last_token_says_why_it_is_the_last(
    make_world: Callable[..., Any], reference: Reference
) -> None:
    world = make_world()
    prompt = next(
        p for p in ([i, j] for i in range(50) for j in range(50)) if len(reference(p, 5)) == 3
    )
    world.engine.submit(request("stops", prompt, max_tokens=5))
    world.engine.submit(request("full", prompt, max_tokens=2))
    sampling = SamplingParams(ignore_eos=True)
    world.engine.submit(request("on", prompt, max_tokens=5, sampling=sampling))
    last = {}
    while world.engine.has_work:
        last.update({r.request_id: r for r in world.engine.step()})

    assert (last["stops"].finish_reason, last["stops"].stop_token) == ("stop", True)
    assert (last["full"].finish_reason, last["full"].stop_token) == ("length", False)
    assert (last["on"].finish_reason, last["on"].stop_token) == ("length", False)


def test_a_stop_token_ends_an_answer_but_not_before_its_minimum(
    make_world: Callable[..., Any], reference: Reference
) -> None:
    world = make_world()
    want = reference([1, 2, 3], 6, ignore_eos=True)
    for name, least in (("soon", 0), ("later", 4)):
        sampling = SamplingParams(
            ignore_eos=True, stop_token_ids=(want[1], want[4]), min_tokens=least
        )
        world.engine.submit(request(name, [1, 2, 3], 6, sampling=sampling))

    answers = drain(world)

    assert answers["soon"] == want[:2]
    assert answers["later"] == want[:5]


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    prompts=st.lists(
        st.tuples(
            st.integers(0, 2),  # how many blocks of a common head
            st.lists(st.integers(0, 49), min_size=1, max_size=12),
            st.integers(1, 20),
            st.integers(0, 30),  # the step before which it arrives
            st.sampled_from(["a", "b"]),
        ),
        min_size=1,
        max_size=12,
    ),
    num_blocks=st.integers(12, 40),
    max_num_seqs=st.integers(1, 6),
    extra=st.integers(0, 20),
    prefix_cache=st.booleans(),
)
def test_answers_do_not_depend_on_the_company(
    make_world: Callable[..., Any],
    reference: Reference,
    prompts: list[tuple[int, list[int], int, int, str]],
    num_blocks: int,
    max_num_seqs: int,
    extra: int,
    prefix_cache: bool,
) -> None:
    world = make_world(
        num_blocks=num_blocks,
        max_num_seqs=max_num_seqs,
        max_batched_tokens=max_num_seqs + extra,
        prefix_cache=prefix_cache,
    )
    requests = {
        str(i): request(str(i), [9, 8, 7, 6] * heads + tail, length, tenant=tenant)
        for i, (heads, tail, length, _, tenant) in enumerate(prompts)
    }
    answers: dict[str, list[int]] = {name: [] for name in requests}
    for now in range(4000):
        for i, (_, _, _, arrival, _) in enumerate(prompts):
            if arrival == now:
                assert world.engine.submit(requests[str(i)]) is None
        if now > 30 and not world.engine.has_work:
            break
        for result in world.engine.step():
            answers[result.request_id] += result.token_ids

    for name, each in requests.items():
        assert answers[name] == reference(each.prompt_ids, each.max_tokens)
    assert world.pool.num_free == num_blocks


def test_a_preempted_request_goes_on_exactly_where_it_was(
    make_world: Callable[..., Any], reference: Reference
) -> None:
    world = make_world(num_blocks=10, block_size=2, prefix_cache=False)
    sampling = SamplingParams(ignore_eos=True)
    for i in range(3):
        world.engine.submit(request(str(i), [i, i + 1], 12, sampling=sampling))

    answers = drain(world)

    assert world.engine.stats().preemptions > 0
    for i in range(3):
        assert answers[str(i)] == reference([i, i + 1], 12, ignore_eos=True)


def test_a_cancelled_request_is_not_in_the_next_step(make_world: Callable[..., Any]) -> None:
    world = make_world()
    sampling = SamplingParams(ignore_eos=True)
    world.engine.submit(request("gone", [1, 2], 20, sampling=sampling))
    world.engine.submit(request("stays", [3, 4], 20, sampling=sampling))
    world.engine.step()

    world.engine.cancel("gone")
    world.engine.cancel("never was")

    assert [r.request_id for r in world.engine.step()] == ["stays"]
    assert len(world.model.plans[-1].lengths) == 1


@pytest.mark.parametrize("waiting", [False, True])
def test_a_request_is_dropped_at_its_deadline_wherever_it_stands(
    make_world: Callable[..., Any], waiting: bool
) -> None:
    world = make_world(max_num_seqs=1, max_batched_tokens=8)
    sampling = SamplingParams(ignore_eos=True)
    if waiting:
        world.engine.submit(request("first", [1], 20, sampling=sampling))
    world.engine.submit(request("late", [1, 2], 20, sampling=sampling, deadline_s=5))
    world.engine.step()
    world.now = 5.0

    results = world.engine.step()

    [rejected] = [r for r in results if isinstance(r, Rejected)]
    assert (rejected.request_id, rejected.code) == ("late", Code.REQUEST_TIMEOUT)
    world.engine.cancel("first")
    assert world.pool.num_free == world.pool.num_blocks


@pytest.mark.parametrize(
    ("wrong", "code", "words"),
    [
        (request("r", []), Code.INVALID_REQUEST, "at least one token in"),
        (request("r", [1], 0), Code.INVALID_REQUEST, "one token out"),
        (request("r", [1] * 60, 5), Code.CONTEXT_LENGTH_EXCEEDED, "context length of 64 tokens"),
        (request("r", [1, 50]), Code.INVALID_REQUEST, "outside the vocabulary of 50"),
        (request("r", [-1]), Code.INVALID_REQUEST, "outside the vocabulary of 50"),
        (
            request("r", [1], sampling=SamplingParams(logit_bias=((50, 1.0),))),
            Code.INVALID_REQUEST,
            "logit_bias names a token id outside the vocabulary of 50",
        ),
    ],
)
def test_what_cannot_be_run_is_rejected_in_a_sentence(
    make_world: Callable[..., Any], wrong: Submit, code: str, words: str
) -> None:
    world = make_world()

    rejected = world.engine.submit(wrong)

    assert rejected is not None
    assert rejected.code == code
    assert words in rejected.message
    assert not world.engine.has_work


def test_a_running_id_cannot_be_used_twice(make_world: Callable[..., Any]) -> None:
    world = make_world()
    world.engine.submit(request("r", [1]))

    rejected = world.engine.submit(request("r", [1]))

    assert rejected is not None
    assert rejected.code == Code.CONFLICT


def test_a_cache_too_small_for_one_sequence_is_refused(make_world: Callable[..., Any]) -> None:
    world = make_world(num_blocks=4)

    with pytest.raises(ValueError, match="raise LLM_KV_CACHE_MIB or lower"):
        type(world.engine)(
            world.scheduler,
            world.model,
            None,  # type: ignore[arg-type]
            eos_token_ids=frozenset(),
            max_model_len=17,
            vocab_size=50,
        )


def test_cached_tokens_and_counters_are_reported(make_world: Callable[..., Any]) -> None:
    world = make_world()
    world.engine.submit(request("a", list(range(10)), 1))
    drain(world)
    world.engine.submit(request("b", list(range(10)), 1))

    [output] = world.engine.step()

    stats = world.engine.stats()
    assert output.cached_tokens == 8
    assert (stats.prompt_tokens, stats.cached_tokens, stats.generated_tokens) == (20, 8, 2)
    assert (stats.running, stats.waiting, stats.step) == (0, 0, 2)


class Choosy:
    """Finds no second token for `bad`."""

    def sample(self, logits: list[int], sequences: list[Sequence]) -> list[Sampled]:
        return [
            SamplingError("none will do")
            if s.request_id == "bad" and s.num_generated
            else (t, None)
            for t, s in zip(logits, sequences, strict=True)
        ]


def test_a_sequence_without_a_token_is_rejected_alone(
    make_world: Callable[..., Any], reference: Reference
) -> None:
    world = make_world(sampler=Choosy())
    for name in ("bad", "good"):
        world.engine.submit(request(name, [1, 2, 3], max_tokens=3))

    world.engine.step()
    [rejected, output] = world.engine.step()

    assert isinstance(rejected, Rejected)
    assert (rejected.request_id, rejected.code) == ("bad", Code.INTERNAL)
    assert "none will do" in rejected.message
    assert output.token_ids == reference([1, 2, 3], 3)[1:2]
    drain(world)
    assert world.pool.num_free == world.pool.num_blocks
