"""Who starts next, who is refused."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from serve_app.fair_queue import FairQueue, Ticket


def flooded(queue: FairQueue, tenant: str, number: int, weight: float = 1) -> list[Ticket]:
    tickets = [Ticket(tenant, weight) for _ in range(number)]
    for ticket in tickets:
        queue.offer(ticket)
    return tickets


def started(queue: FairQueue, number: int) -> list[str]:
    tickets = [queue.start() for _ in range(number)]
    return [ticket.tenant for ticket in tickets if ticket is not None]


def test_one_that_comes_after_a_flood_is_next() -> None:
    queue = FairQueue(100)
    flooded(queue, "flood", 50)
    started(queue, 4)
    queue.offer(Ticket("quiet", 1))
    assert started(queue, 1) == ["quiet"]


def test_slots_are_shared_by_weight() -> None:
    queue = FairQueue(1000)
    flooded(queue, "two", 100, weight=2)
    flooded(queue, "one", 100)
    assert Counter(started(queue, 30)) == {"two": 20, "one": 10}


def test_in_turn_when_one_runs_at_a_time() -> None:
    queue = FairQueue(100)
    tickets = flooded(queue, "a", 10) + flooded(queue, "b", 10)
    order = ""
    for _ in tickets:
        ticket = queue.start()
        assert ticket is not None
        order += ticket.tenant
        queue.finish(ticket)
    assert order in {"ab" * 10, "ba" * 10}


def test_a_full_queue_drops_the_newest_of_the_flood() -> None:
    queue = FairQueue(4)
    flood = flooded(queue, "flood", 4)
    quiet = Ticket("quiet", 1)
    assert queue.offer(quiet) is flood[-1]
    again = Ticket("flood", 1)
    assert queue.offer(again) is again
    assert queue.by_tenant() == {"flood": (0, 3), "quiet": (0, 1)}


def test_nobody_waits_where_no_place_is() -> None:
    queue, ticket = FairQueue(0), Ticket("a", 1)
    assert queue.offer(ticket) is ticket
    assert queue.by_tenant() == {}


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["offer", "start", "leave", "finish"]),
        st.sampled_from("abc"),
        st.sampled_from([0.5, 1.0, 3.0]),
    ),
    max_size=200,
)


@given(ACTIONS, st.integers(0, 6))
def test_every_ticket_is_in_one_place(actions: list[tuple[str, str, float]], most: int) -> None:
    queue = FairQueue(most)
    waiting: list[Ticket] = []
    running: list[Ticket] = []
    for action, tenant, weight in actions:
        if action == "offer":
            waiting.append(Ticket(tenant, weight))
            if (refused := queue.offer(waiting[-1])) is not None:
                waiting.remove(refused)
        elif action == "start":
            if (ticket := queue.start()) is not None:
                waiting.remove(ticket)
                running.append(ticket)
            else:
                assert not waiting
        elif action == "leave" and waiting:
            queue.leave(waiting.pop())
        elif action == "finish" and running:
            queue.finish(running.pop())
        assert (queue.waiting, queue.running) == (len(waiting), len(running))
        assert queue.waiting <= most
    counts = {t.tenant for t in waiting + running}
    assert set(queue.by_tenant()) == counts, "an idle tenant is remembered"


@given(
    st.dictionaries(st.sampled_from("abcd"), st.sampled_from([1.0, 2.0, 4.0]), min_size=2),
    st.integers(2, 16),
)
def test_shares_differ_by_less_than_one_slot(weights: dict[str, float], slots: int) -> None:
    queue = FairQueue(10_000)
    for tenant, weight in weights.items():
        flooded(queue, tenant, slots, weight)
    got = Counter(started(queue, slots))
    for one in weights:
        for other in weights:
            if got[one]:
                ahead = (got[one] - 1) / weights[one]
                assert ahead <= got[other] / weights[other] + 1e-9
