"""Chooses each sequence's next token from its logits.

Order, as in Hugging Face and vLLM: penalties and bias, minimum length, temperature, then top-k,
min-p and top-p, each on the distribution that the one before leaves. A draw depends on the
sequence's seed and position alone, so it is the same in any batch and after a pre-emption.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter

import torch
from torch import Tensor

from llm_backend.engine.sequence import Sequence
from llm_backend.runtime.ipc import SamplingParams, TokenLogprob

_TOP_P_CANDIDATES = 256  # sorted first; only flat distributions need the whole vocabulary sorted


class TokenSampler:
    """The sampler of rank 0.

    Args:
        eos_token_ids: not chosen before a sequence's `min_tokens`.
        secret: makes the draws of requests without a seed unpredictable; tests pass their own.
    """

    def __init__(self, eos_token_ids: frozenset[int], secret: bytes | None = None) -> None:
        self._eos = eos_token_ids
        self._secret = secrets.token_bytes(16) if secret is None else secret

    def sample(
        self, logits: Tensor, sequences: list[Sequence]
    ) -> list[tuple[int, TokenLogprob | None]]:
        """Return the next token of each sequence, and its log probability where asked for.

        Args:
            logits: [len(sequences), vocabulary], any floating type; not modified.
        """
        scores = logits
        if any(_changes_logits(s) for s in sequences):
            scores = torch.stack(
                [self._adjust(*row) for row in zip(logits, sequences, strict=True)]
            )
        tokens: list[int] = scores.argmax(dim=-1).tolist()
        for i, sequence in enumerate(sequences):
            if sequence.sampling.temperature > 0:
                draw = self._uniform(sequence)
                tokens[i] = _draw(scores[i].float(), sequence.sampling, draw)
        return [
            (token, _logprob(logits[i], token, sequences[i].sampling.logprobs))
            for i, token in enumerate(tokens)
        ]

    def _adjust(self, row: Tensor, sequence: Sequence) -> Tensor:
        """Return one row of logits with the sequence's penalties, bias and minimum length."""
        row, sampling = row.float().clone(), sequence.sampling
        if sampling.repetition_penalty != 1:
            seen = torch.tensor(sorted(set(sequence.tokens)), device=row.device)
            values = row[seen]
            factor = sampling.repetition_penalty
            row[seen] = torch.where(values > 0, values / factor, values * factor)
        if sampling.presence_penalty or sampling.frequency_penalty:
            counts = Counter(sequence.tokens[sequence.num_prompt :])
            for token, count in counts.items():
                row[token] -= sampling.presence_penalty + sampling.frequency_penalty * count
        for token, bias in sampling.logit_bias:
            row[token] += bias
        if sequence.num_generated < sampling.min_tokens:
            row[sorted(self._eos.union(sampling.stop_token_ids))] = -torch.inf
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
    )


def _draw(row: Tensor, sampling: SamplingParams, uniform: float) -> int:
    """Return the token at `uniform` of the filtered distribution's cumulative mass."""
    # Scaled relative to the maximum, so that a tiny temperature cannot overflow.
    probabilities = ((row - row.max()) / sampling.temperature).softmax(dim=-1)
    ids: Tensor | None = None
    if sampling.top_k or sampling.top_p < 1:
        probabilities, ids = _most_likely(probabilities, sampling)
    if sampling.min_p > 0:
        floor = sampling.min_p * probabilities.max()
        probabilities = probabilities.where(probabilities >= floor, 0)
    if sampling.top_p < 1:
        before = probabilities.cumsum(dim=-1) - probabilities
        keep = before < sampling.top_p * probabilities.sum()
        probabilities = probabilities.where(keep, 0)
    mass = probabilities.cumsum(dim=-1, dtype=torch.float64)
    # The first entry whose cumulative mass exceeds the draw: never one of zero probability.
    index = int(torch.searchsorted(mass, uniform * mass[-1], right=True))
    return index if ids is None else int(ids[index])


def _most_likely(probabilities: Tensor, sampling: SamplingParams) -> tuple[Tensor, Tensor]:
    """Return the most likely tokens' probabilities, descending, and their ids.

    At least those that top-k and top-p leave; without top-k, the sum of what is cut away stays
    beyond `top_p`, so that the later cut is exact.
    """
    size = probabilities.numel()
    if sampling.top_k:
        probabilities, ids = probabilities.topk(min(sampling.top_k, size))
        return probabilities / probabilities.sum(), ids
    values, ids = probabilities.topk(min(_TOP_P_CANDIDATES, size))
    if values.sum() < sampling.top_p or sampling.min_p > 0:
        values, ids = probabilities.sort(descending=True)
    return values, ids


def _logprob(row: Tensor, token: int, num_top: int | None) -> TokenLogprob | None:
    """Return the model's own log probability of a token, before penalties and temperature."""
    if num_top is None:
        return None
    logprobs = row.float().log_softmax(dim=-1)
    values, ids = logprobs.topk(min(num_top, logprobs.numel()))
    top = list(zip(ids.tolist(), values.tolist(), strict=True))
    return TokenLogprob(logprob=float(logprobs[token]), top=top)
