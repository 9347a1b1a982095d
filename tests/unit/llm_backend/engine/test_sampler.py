from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_backend.engine.sampler import Floats, Sampled, SamplingError, TokenSampler
from llm_backend.engine.sequence import Sequence
from llm_backend.runtime.ipc import SamplingParams, TokenLogprob

EOS = frozenset([0])
LOGITS = np.array([0.0, 1.0, 2.0, 3.0, 4.0], dtype=np.float32)
PROBABILITIES = np.exp(LOGITS) / np.exp(LOGITS).sum()


def sequence(
    prompt: list[int] | None = None, answer: tuple[int, ...] = (), **sampling: object
) -> Sequence:
    made = Sequence("r", prompt or [1], SamplingParams(**sampling), max_length=100)  # type: ignore[arg-type]
    made.tokens += answer
    return made


def choose(made: Sequence, logits: Floats = LOGITS, secret: bytes = b"s") -> int:
    return chosen(TokenSampler(EOS, secret).sample(logits[None], [made])[0])[0]


def chosen(sampled: Sampled) -> tuple[int, TokenLogprob | None]:
    assert not isinstance(sampled, SamplingError), sampled
    return sampled


def draws(count: int = 600, logits: Floats = LOGITS, **sampling: object) -> Counter[int]:
    """Draw with many seeds; return how often each token came."""
    sampling = {"temperature": 1.0, **sampling}
    return Counter(choose(sequence(seed=i, **sampling), logits) for i in range(count))


def test_temperature_zero_takes_the_most_likely() -> None:
    assert choose(sequence()) == 4


def test_draws_follow_the_distribution() -> None:
    seen = draws(4000)
    want = PROBABILITIES.tolist()

    for token, probability in enumerate(want):
        sigma = math.sqrt(probability * (1 - probability) / 4000)
        assert abs(seen[token] / 4000 - probability) < 5 * sigma


def test_temperature_sharpens_and_flattens() -> None:
    assert draws(temperature=0.1)[4] > draws()[4] > draws(temperature=2.0)[4]


def test_a_tiny_temperature_is_greedy_and_does_not_overflow() -> None:
    assert draws(50, temperature=1e-30) == {4: 50}


def test_top_k_keeps_the_k_most_likely() -> None:
    assert set(draws(top_k=2)) == {3, 4}
    assert set(draws(50, top_k=1)) == {4}
    assert len(draws(top_k=100)) == 5


def test_top_p_keeps_the_smallest_set_that_reaches_it() -> None:
    # Probabilities, descending: 0.636, 0.234, 0.086, 0.032, 0.012.
    assert set(draws(50, top_p=0.6)) == {4}
    assert set(draws(top_p=0.7)) == {3, 4}
    assert set(draws(top_p=0.9)) == {2, 3, 4}


def test_top_p_of_a_flat_distribution_over_a_large_vocabulary_is_exact() -> None:
    logits = np.zeros(4096, dtype=np.float32)
    logits[:1024] = 0.5
    mass = float(np.exp(logits[:1024]).sum() / np.exp(logits).sum())

    assert max(draws(300, logits, top_p=mass * 0.99)) < 1024


def test_min_p_cuts_relative_to_the_most_likely() -> None:
    assert set(draws(min_p=0.3)) == {3, 4}


def test_filters_combine() -> None:
    assert set(draws(top_k=3, top_p=0.7)) == {3, 4}
    assert set(draws(top_k=4, min_p=0.3)) == {3, 4}


def test_repetition_penalty_counts_prompt_and_answer() -> None:
    assert choose(sequence([4], (3,), repetition_penalty=3.0)) == 2
    negative = -LOGITS[::-1] - 1
    assert choose(sequence([4], repetition_penalty=10.0), negative) == 3


def test_presence_and_frequency_penalties_count_the_answer_only() -> None:
    assert choose(sequence([4, 4, 4], presence_penalty=1.5)) == 4
    assert choose(sequence([1], (4,), presence_penalty=1.5)) == 3
    assert choose(sequence([1], (4, 3, 3), frequency_penalty=1.2)) == 4
    assert choose(sequence([1], (4, 4, 3), frequency_penalty=1.2)) == 2


def test_logit_bias_is_added() -> None:
    assert choose(sequence(logit_bias=((0, 5.0),))) == 0
    assert choose(sequence(logit_bias=((4, -100.0),))) == 3


def test_no_stop_token_before_the_minimum() -> None:
    logits = LOGITS[::-1]  # the end of sequence is the most likely

    assert choose(sequence(min_tokens=1), logits) == 1
    assert choose(sequence(min_tokens=1, stop_token_ids=(1,)), logits) == 2
    assert choose(sequence(answer=(3,), min_tokens=1), logits) == 0


def test_a_seed_fixes_the_draw_whatever_the_batch() -> None:
    sampler = TokenSampler(EOS, b"s")
    many = [sequence(temperature=1.0, seed=i) for i in range(30)]
    together = [chosen(each)[0] for each in sampler.sample(np.tile(LOGITS, (30, 1)), many)]

    assert together == [choose(each, secret=b"other") for each in many]


def test_without_a_seed_the_draw_is_secret() -> None:
    flat = np.zeros(1000, dtype=np.float32)
    made = sequence(temperature=1.0)

    assert len({choose(made, flat, secret=bytes([i])) for i in range(20)}) > 10


def test_the_draw_changes_with_the_position() -> None:
    flat = np.zeros(1000, dtype=np.float32)

    assert (
        len({choose(sequence(answer=(1,) * i, temperature=1.0, seed=1), flat) for i in range(20)})
        > 10
    )


def test_logprobs_are_the_models_own() -> None:
    made = sequence(logprobs=2, logit_bias=((0, 100.0),))

    token, logprob = chosen(TokenSampler(EOS, b"s").sample(LOGITS[None], [made])[0])

    want = np.log(PROBABILITIES).tolist()
    assert token == 0
    assert logprob is not None
    assert logprob.logprob == pytest.approx(want[0])
    assert logprob.top == [(4, pytest.approx(want[4])), (3, pytest.approx(want[3]))]


def test_logprobs_without_alternatives() -> None:
    _, logprob = chosen(TokenSampler(EOS, b"s").sample(LOGITS[None], [sequence(logprobs=0)])[0])

    assert logprob is not None
    assert logprob.top == []


def test_the_smallest_top_p_is_greedy() -> None:
    assert draws(50, top_p=1e-46) == {4: 50}


BIASES = st.dictionaries(st.integers(0, 4), st.floats(-100, 100), max_size=5)


@settings(max_examples=300, deadline=None)
@given(
    logits=st.lists(st.floats(-1000, 1000, width=32), min_size=5, max_size=40),
    answer=st.lists(st.integers(0, 4), max_size=6),
    biases=BIASES,
    made=st.fixed_dictionaries(
        {
            "temperature": st.floats(0, 2),
            "top_k": st.integers(0, 2**31 - 1) | st.integers(0, 50),
            "top_p": st.floats(0, 1, exclude_min=True),
            "min_p": st.floats(0, 1),
            "repetition_penalty": st.floats(0.01, 10),
            "presence_penalty": st.floats(-2, 2),
            "frequency_penalty": st.floats(-2, 2),
            "seed": st.integers(-(2**63), 2**63 - 1),
            "logprobs": st.none() | st.integers(0, 20),
        }
    ),
)
def test_any_parameters_that_the_api_takes_give_a_token_that_the_model_allows(
    logits: list[float], answer: list[int], biases: dict[int, float], made: dict[str, object]
) -> None:
    row = np.array(logits, dtype=np.float32)
    row[0] = -np.inf

    token = choose(sequence(answer=tuple(answer), logit_bias=tuple(biases.items()), **made), row)

    assert 0 < token < len(logits)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_logits_that_are_no_numbers_cost_their_own_sequence_only(
    temperature: float, wrong: float
) -> None:
    rows = np.stack([LOGITS, np.full_like(LOGITS, wrong), LOGITS])
    many = [sequence(temperature=temperature, top_p=0.5) for _ in rows]

    first, bad, last = TokenSampler(EOS, b"s").sample(rows, many)

    assert (chosen(first)[0], chosen(last)[0]) == (4, 4)
    assert isinstance(bad, SamplingError)
    assert f"the logits is {wrong}" in str(bad)


def test_a_fault_of_the_sampler_costs_its_own_sequence_only() -> None:
    many = [sequence(), sequence(logit_bias=((99, 1.0),))]

    good, bad = TokenSampler(EOS, b"s").sample(np.stack([LOGITS, LOGITS]), many)

    assert chosen(good)[0] == 4
    assert isinstance(bad, SamplingError)
    assert "IndexError" in str(bad)


def test_the_logits_are_left_as_they_were() -> None:
    logits = LOGITS[None].copy()
    TokenSampler(EOS, b"s").sample(logits, [sequence(logit_bias=((1, 9.0),), temperature=1.0)])

    assert np.array_equal(logits[0], LOGITS)
