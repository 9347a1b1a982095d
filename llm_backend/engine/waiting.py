"""Who is admitted next: first come first served for one tenant, fair between tenants.

Fairness is a virtual token counter (Sheng et al., "Fairness in Serving Large Language Models",
OSDI 2024): each tenant is charged for the tokens that the model computed for it, and the tenant
charged least is next. A tenant that comes back is lifted to the least charged active one, so that
idling earns no credit.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator

from llm_backend.engine.sequence import Sequence


class WaitingQueue:
    """Sequences that are not in the batch: new ones, and pre-empted ones ahead of them."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[Sequence]] = {}
        self._charged: dict[str, int] = {}
        self._active: Counter[str] = Counter()

    def __len__(self) -> int:
        return sum(len(queue) for queue in self._queues.values())

    def __iter__(self) -> Iterator[Sequence]:
        for queue in self._queues.values():
            yield from queue

    def enter(self, sequence: Sequence) -> None:
        """Queue a new sequence; its tenant is active until `leave`."""
        tenant = sequence.tenant
        if not self._active[tenant]:
            self._charged[tenant] = min(self._charged.values(), default=0)
            self._queues[tenant] = deque()
        self._active[tenant] += 1
        self._queues[tenant].append(sequence)

    def put_back(self, sequence: Sequence) -> None:
        """Queue a pre-empted sequence ahead of its tenant's others."""
        self._queues[sequence.tenant].appendleft(sequence)

    def take(self, sequence: Sequence) -> None:
        """Remove a sequence that is admitted; its tenant stays active."""
        self._queues[sequence.tenant].remove(sequence)

    def leave(self, sequence: Sequence) -> None:
        """Forget a sequence that ended; it waits no more."""
        tenant = sequence.tenant
        self._active[tenant] -= 1
        if not self._active[tenant]:
            del self._active[tenant], self._charged[tenant], self._queues[tenant]

    def charge(self, tenant: str, num_tokens: int) -> None:
        """Count tokens that the model computes for an active tenant."""
        self._charged[tenant] += num_tokens

    def next(self, held_back: Callable[[Sequence], bool]) -> Sequence | None:
        """Return the sequence whose turn it is among those not held back, or None."""
        for tenant in sorted(self._queues, key=self._charged.__getitem__):
            for sequence in self._queues[tenant]:
                if not held_back(sequence):
                    return sequence
        return None
