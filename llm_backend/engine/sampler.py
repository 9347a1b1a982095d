"""Chooses each sequence's next token from its logits.

Order: penalties and bias, minimum length, grammar, temperature, then top-k, min-p and top-p, each
on the distribution that the one before leaves. A draw depends on the sequence's seed and position
alone, so it is the same in any batch and after a pre-emption.
"""

from __future__ import annotations

import hashlib
import logging
import math
import secrets
from collections import Counter

import numpy as np
import numpy.typing as npt

from llm_backend.engine.sequence import Sequence
from llm_backend.runtime.ipc import SamplingParams, TokenLogprob

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

_CANDIDATE_RATIO = 1e-4  # of the most likely token: above it, tokens are sorted at first
_LOWEST_TEMPERATURE = 1e-30  # its inverse is still a float32
_STRIDE = 256  # a draw looks for its stretch of the vocabulary first, then for the token in it

log = logging.getLogger(__name__)


class SamplingError(Exception):
    """No token can be chosen for one sequence."""


Sampled = tuple[int, TokenLogprob | None] | SamplingError
"""A sequence's next token, with its log probability where asked for; or why there is none."""


class TokenSampler:
    """The sampler of rank 0.

    Args:
        eos_token_ids: not chosen before a sequence's `min_tokens`.
        secret: makes the draws of requests without a seed unpredictable; tests pass their own.
    """

    def __init__(self, eos_token_ids: frozenset[int], secret: bytes | None = None) -> None:
        self._eos = eos_token_ids
        self._secret = secrets.token_bytes(16) if secret is None else secret

    def sample(self, logits: Floats, sequences: list[Sequence]) -> list[Sampled]:
        """Return what is chosen for each sequence. One's error is its own: the others go on.

        Args:
            logits: [len(sequences), vocabulary]; not modified.
        """
        return [self._sampled(row, each) for row, each in zip(logits, sequences, strict=True)]

    def _sampled(self, row: Floats, sequence: Sequence) -> Sampled:
        try:
            return self._next(row, sequence)
        except SamplingError as error:
            return error
        except Exception as error:  # whatever it is, it is this sequence's alone
            log.exception("No token for %s.", sequence.request_id)
            return SamplingError(f"{type(error).__name__}: {error}")

    def _next(self, row: Floats, sequence: Sequence) -> tuple[int, TokenLogprob | None]:
        sampling = sequence.sampling
        scores = self._adjust(row, sequence) if _changes_logits(sequence) else row
        if sampling.temperature > 0:
            token = _draw(scores, sampling, self._uniform(sequence))
        else:
            token = int(scores.argmax())
            _check(float(scores[token]))
        return token, _logprob(row, token, sampling.logprobs)

    def _adjust(self, row: Floats, sequence: Sequence) -> Floats:
        """Return a row of logits with the sequence's penalties, bias and constraints."""
        row, sampling = row.copy(), sequence.sampling
        if sampling.repetition_penalty != 1:
            seen = np.unique(sequence.tokens)
            factor, values = sampling.repetition_penalty, row[seen]
            row[seen] = np.where(values > 0, values / factor, values * factor)
        if sampling.presence_penalty or sampling.frequency_penalty:
            counts = Counter(sequence.tokens[sequence.num_prompt :])
            for token, count in counts.items():
                row[token] -= sampling.presence_penalty + sampling.frequency_penalty * count
        for token, bias in sampling.logit_bias:
            row[token] += bias
        if sequence.num_generated < sampling.min_tokens:
            row[list(self._eos.union(sampling.stop_token_ids))] = -np.inf
        if sequence.guide is not None:
            row[~sequence.guide.allowed] = -np.inf
        return row

    def _uniform(self, sequence: Sequence) -> float:
        """Return a number in [0, 1) fixed by the sequence's seed and position."""
        seed = sequence.sampling.seed
        key = self._secret + sequence.request_id.encode() if seed is None else str(seed).encode()
        position = sequence.num_generated.to_bytes(8, "little")
        digest = hashlib.blake2b(position + key, digest_size=8).digest()
        return (int.from_bytes(digest, "little") >> 12) / 2**52


def _changes_logits(sequence: Sequence) -> bool:
    sampling = sequence.sampling
    return (
        sampling.repetition_penalty != 1
        or sampling.presence_penalty != 0
        or sampling.frequency_penalty != 0
        or bool(sampling.logit_bias)
        or sequence.num_generated < sampling.min_tokens
        or sequence.guide is not None
    )


def _check(top: float) -> None:
    """See that the largest of the logits is a number: of others nothing can be chosen."""
    if not math.isfinite(top):
        raise SamplingError(f"the largest of the logits is {top}")


def _draw(row: Floats, sampling: SamplingParams, uniform: float) -> int:
    """Return the token at `uniform` of the filtered distribution's cumulative mass."""
    top = row.max()
    _check(float(top))
    # Relative to the maximum, so that a tiny temperature can only make the others vanish.
    with np.errstate(over="ignore"):
        weights = np.exp((row - top) * (1 / max(sampling.temperature, _LOWEST_TEMPERATURE)))
    if not (sampling.top_k or sampling.min_p or sampling.top_p < 1):
        return _at(weights, uniform)
    total = weights.sum()
    values, ids = _most_likely(weights, total, sampling)
    if sampling.top_k:
        values = values[: sampling.top_k]
    if sampling.min_p:
        values = values[values >= sampling.min_p * values[0]]
    if sampling.top_p < 1:
        left = values.sum() if sampling.top_k or sampling.min_p else total
        before = np.cumsum(values) - values
        # The most likely one stays also where `top_p` is so small that a float32 has none of it.
        values = values[: max(1, np.count_nonzero(before < sampling.top_p * left))]
    return int(ids[_at(values, uniform)])


def _most_likely(
    weights: Floats, total: np.floating, sampling: SamplingParams
) -> tuple[Floats, Indices]:
    """Return tokens' weights, descending, and their ids: all that the filters may keep.

    Sorting a whole vocabulary is slow and rarely needed: the tokens within a factor of the most
    likely one, whose weight is 1, are sorted, and the rest only if the filters reach beyond them.
    """
    ids = np.flatnonzero(weights >= _CANDIDATE_RATIO)
    if not _covers(weights[ids], total, sampling):
        few = 0 < sampling.top_k < len(weights)
        ids = np.arange(len(weights))
        ids = np.argpartition(-weights, sampling.top_k)[: sampling.top_k] if few else ids
    ids = ids[np.argsort(-weights[ids], kind="stable")]
    return weights[ids], ids


def _covers(values: Floats, total: np.floating, sampling: SamplingParams) -> bool:
    """Whether the candidates are all that the filters may keep."""
    if sampling.min_p >= _CANDIDATE_RATIO:
        return True
    if sampling.top_k:
        return len(values) >= sampling.top_k
    return not sampling.min_p and bool(values.sum() >= sampling.top_p * total)


def _at(weights: Floats, uniform: float) -> int:
    """Return the first index whose cumulative weight exceeds `uniform` of the whole."""
    sums = np.add.reduceat(weights, np.arange(0, len(weights), _STRIDE), dtype=np.float64)
    mass = np.cumsum(sums)
    target = uniform * mass[-1]
    stretch = int(np.searchsorted(mass, target, side="right"))
    begin = stretch * _STRIDE
    within = np.cumsum(weights[begin : begin + _STRIDE], dtype=np.float64)
    before = mass[stretch] - sums[stretch]
    index = int(np.searchsorted(within, target - before, side="right"))
    # The two sums may differ in their last bit; the last token that has any weight is the limit.
    return begin + min(index, int(np.flatnonzero(weights[begin : begin + _STRIDE])[-1]))


def _logprob(row: Floats, token: int, num_top: int | None) -> TokenLogprob | None:
    """Return the model's own log probability of a token, before penalties and temperature."""
    if num_top is None:
        return None
    top = row.max()
    norm = float(top) + float(np.log(np.exp(row - top).sum(dtype=np.float64)))
    ids = np.flatnonzero(row >= top + np.log(_CANDIDATE_RATIO))
    if len(ids) < num_top:
        ids = np.arange(len(row))
    ids = ids[np.argsort(-row[ids], kind="stable")[:num_top]]
    return TokenLogprob(
        logprob=float(row[token]) - norm, top=[(int(i), float(row[i]) - norm) for i in ids]
    )
