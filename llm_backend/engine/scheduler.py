"""What the next step computes: decodes first, then prefill chunks, within a token budget.

Pure bookkeeping over sequences and block numbers: no tensor, no clock, no I/O.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from llm_backend.engine.kv_cache import BlockPool
from llm_backend.engine.sequence import Sequence
from llm_backend.engine.waiting import WaitingQueue


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one step may do.

    Attributes:
        max_num_seqs: most sequences in the batch.
        max_batched_tokens: token budget of a step; at least `max_num_seqs`, so that every decode
            always fits.
    """

    max_num_seqs: int
    max_batched_tokens: int

    def __post_init__(self) -> None:
        if self.max_num_seqs > self.max_batched_tokens:
            raise ValueError(
                f"A step must have room for one token of each sequence: raise the token budget "
                f"({self.max_batched_tokens}) to {self.max_num_seqs} or admit fewer sequences."
            )


@dataclass(frozen=True, slots=True)
class Chunk:
    """`length` tokens of a sequence, from its first uncomputed one on, to run in one step."""

    sequence: Sequence
    length: int

    @property
    def samples(self) -> bool:
        """Whether the chunk reaches the sequence's end, so that a token is sampled after it."""
        return self.length == self.sequence.num_uncomputed


FULL = 0.25
"""A step that uses this much of its budget takes in no other prompt. From there on it computes more
than it reads weights, so that two prompts in one step would only wait for each other: one after
the other, the first has its token sooner, and running requests wait less for theirs."""


class Scheduler:
    """Admits, pre-empts and finishes sequences.

    A sequence gets the blocks of all its tokens when it is admitted, so a prefill never stalls
    half-way. While decoding it grows by a block at a time; when none is free, the youngest of
    the batch gives up its blocks and is computed again later, with the same tokens.
    """

    def __init__(self, pool: BlockPool, limits: Limits) -> None:
        self.pool = pool
        self.limits = limits
        self.waiting = WaitingQueue()
        self.running: list[Sequence] = []  # in order of admission
        self.num_preemptions = 0
        self._pending: set[bytes] = set()  # blocks that running prefills have yet to compute

    def __iter__(self) -> Iterator[Sequence]:
        yield from self.running
        yield from self.waiting

    def add(self, sequence: Sequence) -> None:
        """Queue a new sequence."""
        self.waiting.enter(sequence)

    def schedule(self) -> list[Chunk]:
        """Return the next step's chunks, decodes first; empty when there is nothing to do."""
        self._grow_decodes()
        chunks = [Chunk(s, 1) for s in self.running if s.is_decoding]
        budget = self.limits.max_batched_tokens
        room = budget - len(chunks)
        for sequence in self._prefilling() if room else ():
            length = min(room, sequence.num_uncomputed)
            chunks.append(Chunk(sequence, length))
            room -= length
            if room <= budget * (1 - FULL):
                break
        for chunk in chunks:
            self.waiting.charge(chunk.sequence.tenant, chunk.length)
        return chunks

    def advance(self, chunk: Chunk) -> None:
        """Record that a chunk's keys and values are in the cache."""
        sequence, size = chunk.sequence, self.pool.block_size
        first = sequence.num_computed // size
        sequence.num_computed += chunk.length
        if not self.pool.prefix_cache:
            return
        hashes = sequence.block_hashes(size)
        for i in range(first, sequence.num_computed // size):
            self.pool.register(sequence.blocks[i], hashes[i])

    def finish(self, sequence: Sequence) -> None:
        """Forget a sequence, wherever it stands, and free its blocks."""
        if sequence in self.running:
            self.running.remove(sequence)
        else:
            self.waiting.take(sequence)
        self._release(sequence)
        self.waiting.leave(sequence)

    def _grow_decodes(self) -> None:
        """Give every decode a slot for its next token, oldest first."""
        for sequence in [s for s in self.running if s.is_decoding]:
            missing = self.pool.blocks_for(len(sequence.tokens)) - len(sequence.blocks)
            while sequence in self.running and self.pool.num_free < missing:
                self._preempt(self.running[-1])
            if sequence in self.running:
                sequence.blocks += self.pool.allocate(missing)

    def _prefilling(self) -> Iterator[Sequence]:
        """Yield the sequences whose prompt is unfinished, then new ones as they are admitted."""
        unfinished = [s for s in self.running if not s.is_decoding]
        self._pending = {digest for s in unfinished for digest in self._uncomputed_blocks(s)}
        yield from unfinished
        while len(self.running) < self.limits.max_num_seqs:
            sequence = self.waiting.next(self._is_held_back)
            if sequence is None or not self._admit(sequence):
                return
            self._pending.update(self._uncomputed_blocks(sequence))
            yield sequence

    def _is_held_back(self, sequence: Sequence) -> bool:
        """Whether the batch is just computing a block that this sequence can share in a moment."""
        hashes = self._shareable(sequence)
        matched = len(self.pool.match(hashes))
        return matched < len(hashes) and hashes[matched] in self._pending

    def _shareable(self, sequence: Sequence) -> list[bytes]:
        """Return the hashes to look up: never of all tokens, since the last must be computed."""
        if not self.pool.prefix_cache:
            return []
        full = (len(sequence.tokens) - 1) // self.pool.block_size
        return sequence.block_hashes(self.pool.block_size)[:full]

    def _uncomputed_blocks(self, sequence: Sequence) -> list[bytes]:
        return self._shareable(sequence)[sequence.num_computed // self.pool.block_size :]

    def _admit(self, sequence: Sequence) -> bool:
        """Move a sequence into the batch if its blocks fit beside the others' next ones."""
        pool = self.pool
        cached = pool.match(self._shareable(sequence))
        missing = pool.blocks_for(len(sequence.tokens)) - len(cached)
        if pool.num_free_without(cached) < missing + len(self.running):
            return False
        pool.hold(cached)
        sequence.blocks = cached + pool.allocate(missing)
        sequence.num_computed = len(cached) * pool.block_size
        if sequence.num_cached is None:
            sequence.num_cached = sequence.num_computed
        self.waiting.take(sequence)
        self.running.append(sequence)
        return True

    def _preempt(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self._release(sequence)
        self.waiting.put_back(sequence)
        self.num_preemptions += 1

    def _release(self, sequence: Sequence) -> None:
        self.pool.release(sequence.blocks)
        sequence.blocks = []
        sequence.num_computed = 0
