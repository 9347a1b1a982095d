"""Who may start next: a bounded queue shared between tenants by weight. No clock, no I/O.

Of the tenants that wait, the next to start is the one with the least running for its weight; of
equals, the one whose last start lies furthest back for its weight (start-time fair queueing:
Goyal, Vin, Cheng, SIGCOMM 1996). A tenant alone may use everything; one that comes later gets its
share as soon as slots fall free.

When the queue is full, the newest of the tenant with the most waiting for its weight has to go,
so that a flood cannot fill the queue against the others.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass(eq=False, slots=True)
class Ticket:
    """One request's place. Compared by identity."""

    tenant: str
    weight: float


@dataclass(slots=True)
class _Tenant:
    running: int = 0
    weight: float = 1.0
    tag: float = 0.0
    """Virtual time of its next start."""
    waiting: deque[Ticket] = field(default_factory=deque)

    def load(self, more: int = 0) -> float:
        return (len(self.waiting) + more) / self.weight


class FairQueue:
    """The tickets that wait and the number that run, by tenant."""

    def __init__(self, max_waiting: int) -> None:
        self._max_waiting = max_waiting
        self._tenants: dict[str, _Tenant] = {}
        self._virtual = 0.0
        self.waiting = 0
        self.running = 0

    def offer(self, ticket: Ticket, room: int = 0) -> Ticket | None:
        """Put `ticket` into the queue; return the one that is refused for it, if one has to be.

        That is `ticket` itself when its tenant already has the most waiting for its weight.

        Args:
            ticket: the new one.
            room: how many may start at once, which therefore do not wait.
        """
        tenant = self._tenants.setdefault(ticket.tenant, _Tenant())
        tenant.weight = ticket.weight
        if self.waiting < self._max_waiting + room:
            self._append(tenant, ticket)
            return None
        heaviest = max(self._tenants.values(), key=_Tenant.load)
        if not heaviest.waiting or heaviest.load() <= tenant.load(more=1):
            self._forget_if_idle(ticket.tenant)
            return ticket
        refused = heaviest.waiting.pop()
        self.waiting -= 1
        self._append(tenant, ticket)
        self._forget_if_idle(refused.tenant)
        return refused

    def start(self) -> Ticket | None:
        """Return the ticket that runs from now on, or None when none waits."""
        ready = [tenant for tenant in self._tenants.values() if tenant.waiting]
        if not ready:
            return None
        tenant = min(ready, key=lambda t: (t.running / t.weight, t.tag))
        ticket = tenant.waiting.popleft()
        self._virtual = max(self._virtual, tenant.tag)
        tenant.tag = self._virtual + 1 / tenant.weight
        tenant.running += 1
        self.waiting -= 1
        self.running += 1
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Take `ticket`, which waits, out of the queue."""
        self._tenants[ticket.tenant].waiting.remove(ticket)
        self.waiting -= 1
        self._forget_if_idle(ticket.tenant)

    def finish(self, ticket: Ticket) -> None:
        """Note that `ticket`, which ran, ended."""
        self._tenants[ticket.tenant].running -= 1
        self.running -= 1
        self._forget_if_idle(ticket.tenant)

    def is_alone(self, tenant: str) -> bool:
        """Whether nobody but `tenant` runs or waits."""
        return set(self._tenants) <= {tenant}

    def by_tenant(self) -> dict[str, tuple[int, int]]:
        """Return how many of each tenant run and wait."""
        return {name: (t.running, len(t.waiting)) for name, t in self._tenants.items()}

    def _append(self, tenant: _Tenant, ticket: Ticket) -> None:
        tenant.tag = max(tenant.tag, self._virtual)  # nobody saves up shares while away
        tenant.waiting.append(ticket)
        self.waiting += 1

    def _forget_if_idle(self, name: str) -> None:
        tenant = self._tenants[name]
        if not tenant.running and not tenant.waiting:
            del self._tenants[name]
