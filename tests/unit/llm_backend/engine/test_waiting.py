from __future__ import annotations

from llm_backend.engine.sequence import Sequence
from llm_backend.engine.waiting import WaitingQueue
from llm_backend.runtime.ipc import SamplingParams


def sequence(name: str, tenant: str) -> Sequence:
    return Sequence(name, [1], SamplingParams(), max_length=2, tenant=tenant)


def free(_: Sequence) -> bool:
    return False


def admit_all(queue: WaitingQueue, cost: int = 1) -> list[str]:
    order = []
    while (chosen := queue.next(free)) is not None:
        queue.take(chosen)
        queue.charge(chosen.tenant, cost)
        order.append(chosen.request_id)
    return order


def test_one_tenant_is_served_in_order() -> None:
    queue = WaitingQueue()
    for name in "abc":
        queue.enter(sequence(name, "t"))

    assert admit_all(queue) == ["a", "b", "c"]


def test_a_tenant_with_one_request_does_not_wait_behind_another_ones_hundred() -> None:
    queue = WaitingQueue()
    for i in range(100):
        queue.enter(sequence(f"many{i}", "greedy"))
    queue.enter(sequence("one", "modest"))

    assert "one" in admit_all(queue)[:2]


def test_tenants_share_by_tokens_not_by_requests() -> None:
    queue = WaitingQueue()
    for i in range(8):
        queue.enter(sequence(f"long{i}", "long"))
        queue.enter(sequence(f"short{i}", "short"))
    order = []
    for _ in range(8):
        chosen = queue.next(free)
        assert chosen is not None
        queue.take(chosen)
        queue.charge(chosen.tenant, 300 if chosen.tenant == "long" else 100)
        order.append(chosen.tenant)

    assert order.count("short") == 3 * order.count("long")


def test_idling_earns_no_credit() -> None:
    queue = WaitingQueue()
    queue.enter(sequence("a", "busy"))
    queue.charge("busy", 1000)
    late = [sequence(f"late{i}", "late") for i in range(3)]
    for each in late:
        queue.enter(each)
    queue.enter(sequence("b", "busy"))

    assert admit_all(queue, cost=1) == ["a", "late0", "b", "late1", "late2"]


def test_a_preempted_sequence_comes_before_its_tenants_others() -> None:
    queue = WaitingQueue()
    first, second = sequence("first", "t"), sequence("second", "t")
    queue.enter(first)
    queue.enter(second)
    queue.take(first)
    queue.put_back(first)

    assert admit_all(queue) == ["first", "second"]


def test_a_sequence_held_back_lets_the_next_one_pass() -> None:
    queue = WaitingQueue()
    queue.enter(sequence("a", "t"))
    queue.enter(sequence("b", "t"))

    chosen = queue.next(lambda s: s.request_id == "a")

    assert chosen is not None
    assert chosen.request_id == "b"


def test_a_tenant_whose_last_request_left_is_forgotten() -> None:
    queue = WaitingQueue()
    only = sequence("a", "t")
    queue.enter(only)
    queue.take(only)
    queue.leave(only)

    assert len(queue) == 0
    assert queue._charged == {}
