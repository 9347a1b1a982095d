"""Properties of the scheduler: no leak, no wrong sharing, no starvation, budgets hold."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from llm_backend.engine.kv_cache import BlockPool
from llm_backend.engine.scheduler import Chunk, Limits, Scheduler
from llm_backend.engine.sequence import Sequence
from llm_backend.runtime.ipc import SamplingParams


def sequence(name: str, tokens: list[int], answer: int = 4, **more: str) -> Sequence:
    return Sequence(name, tokens, SamplingParams(), len(tokens) + answer, **more)


def run(scheduler: Scheduler, chunks: list[Chunk], token: int = 0) -> None:
    """Do what the engine does with a step's chunks."""
    sampled = [chunk.sequence for chunk in chunks if chunk.samples]
    for chunk in chunks:
        scheduler.advance(chunk)
    for each in sampled:
        each.tokens.append(token)
        if len(each.tokens) == each.max_length:
            scheduler.finish(each)


def test_decodes_come_first_and_a_prefill_takes_what_is_left() -> None:
    scheduler = Scheduler(BlockPool(32, 4), Limits(4, 10))
    scheduler.add(sequence("a", [1, 2]))
    run(scheduler, scheduler.schedule())
    scheduler.add(sequence("b", list(range(20))))

    chunks = scheduler.schedule()

    assert [(c.sequence.request_id, c.length, c.samples) for c in chunks] == [
        ("a", 1, True),
        ("b", 9, False),
    ]


def test_a_long_prompt_is_computed_in_chunks_and_sampled_once() -> None:
    scheduler = Scheduler(BlockPool(32, 4), Limits(4, 8))
    scheduler.add(sequence("a", list(range(20))))
    seen = []
    for _ in range(3):
        chunks = scheduler.schedule()
        seen += [(c.length, c.samples) for c in chunks]
        run(scheduler, chunks)

    assert seen == [(8, False), (8, False), (4, True)]


def test_a_prompt_that_fills_a_step_has_it_alone() -> None:
    scheduler = Scheduler(BlockPool(64, 4), Limits(4, 64))
    for name in ("a", "b", "c"):
        scheduler.add(sequence(name, [ord(name)] * 20))
    seen = []
    for _ in range(3):
        chunks = scheduler.schedule()
        seen.append([(c.sequence.request_id, c.length) for c in chunks])
        run(scheduler, chunks)

    assert seen == [[("a", 20)], [("a", 1), ("b", 20)], [("a", 1), ("b", 1), ("c", 20)]]


def test_short_prompts_share_a_step() -> None:
    scheduler = Scheduler(BlockPool(64, 4), Limits(4, 64))
    for name in ("a", "b", "c"):
        scheduler.add(sequence(name, [ord(name)] * 9))

    assert [c.length for c in scheduler.schedule()] == [9, 9]


def test_a_batch_full_of_decodes_still_takes_prompts_in() -> None:
    scheduler = Scheduler(BlockPool(64, 4), Limits(8, 8))
    for i in range(6):
        scheduler.add(sequence(f"{i}", [i], answer=30))
        run(scheduler, scheduler.schedule())
    scheduler.add(sequence("late", list(range(10, 15))))
    for _ in range(3):
        run(scheduler, scheduler.schedule())

    assert next(s for s in scheduler if s.request_id == "late").num_generated == 1


def test_a_shared_prefix_is_computed_once_even_by_requests_of_the_same_moment() -> None:
    scheduler = Scheduler(BlockPool(32, 4), Limits(4, 64))
    prefix = list(range(12))
    for i in range(3):
        scheduler.add(sequence(str(i), [*prefix, 40 + i, 41]))

    first = scheduler.schedule()
    run(scheduler, first)
    second = scheduler.schedule()

    assert [c.length for c in first] == [14]
    assert [c.length for c in second] == [1, 2, 2]
    assert [s.num_cached for s in scheduler.running] == [0, 12, 12]


def test_the_last_token_of_a_wholly_cached_prompt_is_computed_again() -> None:
    scheduler = Scheduler(BlockPool(32, 4), Limits(4, 64))
    for name in "ab":
        scheduler.add(sequence(name, list(range(8)), answer=1))
        run(scheduler, scheduler.schedule())
    scheduler.add(sequence("c", list(range(8))))

    [chunk] = scheduler.schedule()

    assert (chunk.length, chunk.sequence.num_cached) == (4, 4)


@pytest.mark.parametrize("salts", [("a", "b"), ("", "a")])
def test_another_salt_shares_nothing(salts: tuple[str, str]) -> None:
    scheduler = Scheduler(BlockPool(32, 4), Limits(4, 64))
    for i, salt in enumerate(salts):
        scheduler.add(sequence(str(i), list(range(12)), answer=1, cache_salt=salt))
        run(scheduler, scheduler.schedule())
    scheduler.add(sequence("again", list(range(12)), cache_salt=salts[0]))
    scheduler.schedule()

    [last] = scheduler.running
    assert last.num_cached == 8


def test_without_a_prefix_cache_equal_prompts_run_together() -> None:
    scheduler = Scheduler(BlockPool(32, 4, prefix_cache=False), Limits(4, 64))
    scheduler.add(sequence("a", list(range(12))))
    scheduler.add(sequence("b", list(range(12))))

    assert [c.length for c in scheduler.schedule()] == [12, 12]


def test_the_youngest_is_preempted_and_resumes_with_its_tokens() -> None:
    scheduler = Scheduler(BlockPool(4, 2, prefix_cache=False), Limits(4, 64))
    scheduler.add(sequence("old", [1, 2], answer=6))
    scheduler.add(sequence("young", [3, 4], answer=6))
    order = []
    while scheduler.running or len(scheduler.waiting):
        chunks = scheduler.schedule()
        order.append([(c.sequence.request_id, c.length) for c in chunks])
        run(scheduler, chunks)

    assert scheduler.num_preemptions > 0
    assert order[-1] == [("young", 1)]
    assert scheduler.pool.num_free == 4


def test_a_token_budget_below_the_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="raise the token budget"):
        Limits(max_num_seqs=8, max_batched_tokens=4)


class Machine(RuleBasedStateMachine):
    """Random requests, steps and cancellations; the books must balance after each."""

    @initialize(
        blocks=st.integers(8, 24),
        seqs=st.integers(1, 5),
        extra=st.integers(0, 12),
        cache=st.booleans(),
    )
    def start(self, blocks: int, seqs: int, extra: int, cache: bool) -> None:
        self.limits = Limits(seqs, seqs + extra)
        self.scheduler = Scheduler(BlockPool(blocks, 2, cache), self.limits)
        self.alive: list[Sequence] = []
        self.count = 0

    @rule(
        tokens=st.lists(st.integers(0, 1), min_size=1, max_size=10),
        answer=st.integers(1, 6),
        tenant=st.sampled_from("ab"),
        salt=st.sampled_from(["", "s"]),
    )
    def add(self, tokens: list[int], answer: int, tenant: str, salt: str) -> None:
        new = sequence(str(self.count), tokens, answer, tenant=tenant, cache_salt=salt)
        self.count += 1
        self.alive.append(new)
        self.scheduler.add(new)

    @rule(token=st.integers(0, 1))
    def step(self, token: int) -> None:
        chunks = self.scheduler.schedule()
        assert sum(c.length for c in chunks) <= self.limits.max_batched_tokens
        assert len(chunks) <= self.limits.max_num_seqs
        assert all(c.length > 0 for c in chunks)
        assert bool(chunks) == bool(self.alive)
        self._check_room(chunks)
        run(self.scheduler, chunks, token)
        self.alive = list(self.scheduler)

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        victim = data.draw(st.sampled_from(self.alive))
        self.scheduler.finish(victim)
        self.alive.remove(victim)

    @invariant()
    def every_block_is_free_or_held_by_those_who_list_it(self) -> None:
        if not hasattr(self, "scheduler"):
            return
        pool = self.scheduler.pool
        holders = Counter(block for s in self.scheduler for block in s.blocks)
        assert [holders[b] for b in range(pool.num_blocks)] == pool._references
        assert pool.num_free == pool.num_blocks - len(holders)
        assert all(len(set(s.blocks)) == len(s.blocks) for s in self.scheduler)
        assert all(not s.blocks for s in self.scheduler.waiting)

    @invariant()
    def a_block_is_shared_only_where_all_tokens_up_to_it_and_the_salt_are_equal(self) -> None:
        contents: dict[int, tuple[object, ...]] = {}
        for s in getattr(self, "scheduler", ()):
            for i, block in enumerate(s.blocks):
                content = (s.cache_salt, *s.tokens[: (i + 1) * 2])
                assert contents.setdefault(block, content) == content

    def _check_room(self, chunks: list[Chunk]) -> None:
        for chunk in chunks:
            end = chunk.sequence.num_computed + chunk.length
            assert end <= len(chunk.sequence.blocks) * 2
            assert end <= len(chunk.sequence.tokens)

    def teardown(self) -> None:
        """Whatever state was reached, everyone is served in the end: nobody starves."""
        self.alive = getattr(self, "alive", [])
        for _ in range(2000):
            if not self.alive:
                break
            self.step(0)
        assert not self.alive
        assert not hasattr(self, "scheduler") or (
            self.scheduler.pool.num_free == self.scheduler.pool.num_blocks
        )


Machine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestMachine = Machine.TestCase
