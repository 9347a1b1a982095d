"""The engine: requests in, one token each out of every step."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Collection
from typing import Generic, Protocol, TypeVar

from contracts.errors import Code
from llm_backend.engine.guide import GuideError, Guides
from llm_backend.engine.pending import PendingGuides
from llm_backend.engine.plan import StepPlan
from llm_backend.engine.sampler import Sampled, SamplingError
from llm_backend.engine.scheduler import Chunk, Scheduler
from llm_backend.engine.sequence import Sequence
from llm_backend.runtime.ipc import Output, Rejected, Stats, Submit

LogitsT = TypeVar("LogitsT")
LogitsIn = TypeVar("LogitsIn", contravariant=True)
LogitsOut = TypeVar("LogitsOut", covariant=True)


class Model(Protocol[LogitsOut]):
    """What computes a plan, on all ranks."""

    def run(self, plan: StepPlan) -> LogitsOut:
        """Return the logits after each chunk that samples, in the plan's order."""


class Sampler(Protocol[LogitsIn]):
    """What chooses tokens, on rank 0."""

    def sample(self, logits: LogitsIn, sequences: list[Sequence]) -> Collection[Sampled]:
        """Return the next token of each sequence, or why there is none."""


class Engine(Generic[LogitsT]):
    """Continuous batching: every `step` moves every running request on by a token.

    Args:
        scheduler: decides what a step computes.
        model: computes it.
        sampler: chooses tokens from logits.
        eos_token_ids: tokens that end an answer.
        max_model_len: context length in tokens, prompt and answer together.
        vocab_size: token ids are below it.
        guides: compiles grammars; None refuses requests that have one.
        clock: seconds, monotonic.

    Raises:
        ValueError: the KV cache cannot hold one sequence of `max_model_len`.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        model: Model[LogitsT],
        sampler: Sampler[LogitsT],
        *,
        eos_token_ids: frozenset[int],
        max_model_len: int,
        vocab_size: int,
        guides: Guides | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        pool = scheduler.pool
        if pool.blocks_for(max_model_len) > pool.num_blocks:
            raise ValueError(
                f"The KV cache has room for {pool.num_blocks * pool.block_size} tokens, less than "
                f"one sequence of {max_model_len}: raise LLM_KV_CACHE_MIB or lower "
                f"LLM_MAX_MODEL_LEN."
            )
        self._scheduler = scheduler
        self._model = model
        self._sampler = sampler
        self._eos = eos_token_ids
        self._max_model_len = max_model_len
        self._vocab_size = vocab_size
        self._pending = PendingGuides(guides) if guides is not None else None
        self._clock = clock
        self._sequences: dict[str, Sequence] = {}
        self._steps = self._prompt_tokens = self._cached_tokens = self._generated_tokens = 0

    @property
    def has_work(self) -> bool:
        """Whether any request is running or waiting."""
        return bool(self._sequences)

    def step(self) -> list[Output | Rejected]:
        """Move every running request on by one step and return what that brought."""
        refused = [*self._expire(), *self._take_guides()]
        chunks = self._scheduler.schedule()
        if not chunks:
            if self._pending:
                self._pending.wait()
            return [*refused]
        sampled = [chunk.sequence for chunk in chunks if chunk.samples]
        logits = self._model.run(StepPlan.of(chunks))
        tokens = self._sampler.sample(logits, sampled) if sampled else []
        self._advance(chunks)
        emitted = [self._emit(*each) for each in zip(sampled, tokens, strict=True)]
        return [*refused, *emitted]

    def submit(self, request: Submit) -> Rejected | None:
        """Queue a request, or say why it cannot be answered."""
        problem = self._problem_with(request)
        if problem is not None:
            return Rejected(request.request_id, *problem)
        deadline = None if request.deadline_s is None else self._clock() + request.deadline_s
        sequence = Sequence(
            request_id=request.request_id,
            tokens=list(request.prompt_ids),
            sampling=request.sampling,
            max_length=len(request.prompt_ids) + request.max_tokens,
            tenant=request.tenant,
            cache_salt=request.cache_salt,
            deadline=deadline,
        )
        self._sequences[request.request_id] = sequence
        if request.grammar and self._pending is not None:
            self._pending.add(sequence, request.grammar)
        else:
            self._scheduler.add(sequence)
        return None

    def cancel(self, request_id: str) -> None:
        """Forget a request and free its blocks; an unknown one is no error."""
        sequence = self._sequences.pop(request_id, None)
        if sequence is None or (self._pending and self._pending.drop(request_id)):
            return
        self._scheduler.finish(sequence)

    def stats(self) -> Stats:
        """Return gauges of now and counters since the start."""
        return Stats(
            step=self._steps,
            running=len(self._scheduler.running),
            waiting=len(self._scheduler.waiting),
            free_blocks=self._scheduler.pool.num_free,
            total_blocks=self._scheduler.pool.num_blocks,
            preemptions=self._scheduler.num_preemptions,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
            generated_tokens=self._generated_tokens,
        )

    def _expire(self) -> list[Rejected]:
        now = self._clock()
        every = itertools.chain(self._scheduler, self._pending or ())
        late = [s for s in every if s.deadline is not None and s.deadline <= now]
        for sequence in late:
            self.cancel(sequence.request_id)
        message = "The request's deadline passed before its answer was complete."
        return [Rejected(s.request_id, Code.REQUEST_TIMEOUT, message) for s in late]

    def _take_guides(self) -> list[Rejected]:
        """Queue the requests whose grammar has been compiled; return those whose cannot be."""
        rejected: list[Rejected] = []
        for sequence, error in self._pending.take() if self._pending else ():
            self._scheduler.add(sequence)
            if error is not None:
                self.cancel(sequence.request_id)
                rejected.append(_off_grammar(sequence.request_id, error))
        return rejected

    def _advance(self, chunks: list[Chunk]) -> None:
        self._steps += 1
        for chunk in chunks:
            self._scheduler.advance(chunk)

    def _emit(self, sequence: Sequence, sampled: Sampled) -> Output | Rejected:
        """Append a sequence's new token and finish it if that was the last one."""
        if isinstance(sampled, SamplingError):
            self.cancel(sequence.request_id)
            message = f"No token could be chosen after {sequence.num_generated}: {sampled}."
            return Rejected(sequence.request_id, Code.INTERNAL, message)
        token, logprob = sampled
        sequence.tokens.append(token)
        self._count(sequence)
        stops = self._stops(sequence, token)
        full = len(sequence.tokens) >= sequence.max_length
        try:
            complete = not stops and sequence.guide is not None and sequence.guide.advance(token)
        except GuideError as error:
            self.cancel(sequence.request_id)
            return _off_grammar(sequence.request_id, error)
        if stops or full or complete:
            self.cancel(sequence.request_id)
        return Output(
            request_id=sequence.request_id,
            token_ids=[token],
            finish_reason="stop" if stops or complete else "length" if full else None,
            cached_tokens=sequence.num_cached or 0,
            logprobs=None if logprob is None else [logprob],
            stop_token=stops,
        )

    def _stops(self, sequence: Sequence, token: int) -> bool:
        sampling = sequence.sampling
        if sequence.num_generated < sampling.min_tokens:
            return False
        is_eos = token in self._eos and not sampling.ignore_eos
        return is_eos or token in sampling.stop_token_ids

    def _count(self, sequence: Sequence) -> None:
        self._generated_tokens += 1
        if sequence.num_generated == 1:
            self._prompt_tokens += sequence.num_prompt
            self._cached_tokens += sequence.num_cached or 0

    def _problem_with(self, request: Submit) -> tuple[str, str] | None:
        """Return the code and the sentence for a request that cannot be run, or None."""
        prompt, limit = request.prompt_ids, self._max_model_len
        if request.request_id in self._sequences:
            return Code.CONFLICT, f"A request with the id {request.request_id!r} is running."
        if not prompt or request.max_tokens < 1:
            return Code.INVALID_REQUEST, "A request needs at least one token in and one token out."
        if len(prompt) + request.max_tokens > limit:
            return Code.CONTEXT_LENGTH_EXCEEDED, (
                f"The prompt of {len(prompt)} tokens and {request.max_tokens} tokens of answer "
                f"exceed the context length of {limit} tokens; shorten the prompt or the answer."
            )
        if not all(0 <= token < self._vocab_size for token in prompt):
            return Code.INVALID_REQUEST, (
                f"The prompt has a token id outside the vocabulary of {self._vocab_size}."
            )
        if request.grammar and self._pending is None:
            return Code.UNSUPPORTED_FIELD, "This engine cannot constrain answers to a grammar."
        biased = (token for token, _ in request.sampling.logit_bias)
        if not all(0 <= token < self._vocab_size for token in biased):
            return Code.INVALID_REQUEST, (
                f"logit_bias names a token id outside the vocabulary of {self._vocab_size}."
            )
        return None


def _off_grammar(request_id: str, error: GuideError) -> Rejected:
    message = f"The answer cannot be held to the grammar asked for: {error}."
    return Rejected(request_id, Code.INVALID_REQUEST, message)
