"""Which tasks may start now on this machine: no I/O, and no clock of its own."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Mapping

from reflow.sched.sharing import ALONE, Others, Units, Want, share_of

PATIENCE_S = 60.0
"""How long a task lets others pass while it does not fit."""

_UNITS_PER_CORE = 1000

Amounts = tuple[tuple[str, int], ...]
"""Resources in whole units (bytes, thousandths of a core), so that sums are exact."""


class Waiting:
    """A task that waits: what it wants, its place, and since when."""

    __slots__ = ("amounts", "order", "since")

    def __init__(self, amounts: Amounts, order: tuple[int, int], since: float) -> None:
        self.amounts = amounts
        self.order = order
        self.since = since


class Admission:
    """Who may start now. Times are in seconds of any steady clock."""

    def __init__(self, total: Mapping[str, float], patience_s: float = PATIENCE_S) -> None:
        self.total: Units = dict(amounts_of(total, round_up=False))
        self.free = dict(self.total)
        self._patience_s = patience_s
        self._queues: dict[tuple[int, Amounts], deque[Waiting]] = {}
        self._arrivals = 0

    def ask(self, wanted: Mapping[str, float], priority: int, now: float) -> Waiting:
        """Queue up. What is wanted must fit into the whole machine."""
        self._arrivals += 1
        waiting = Waiting(amounts_of(wanted), (priority, self._arrivals), now)
        self._queues.setdefault((priority, waiting.amounts), deque()).append(waiting)
        return waiting

    def withdraw(self, waiting: Waiting) -> None:
        """Leave the queue without having been admitted."""
        key = (waiting.order[0], waiting.amounts)
        queue = self._queues[key]
        queue.remove(waiting)
        if not queue:
            del self._queues[key]

    def release(self, waiting: Waiting) -> None:
        """Give back what an admitted task had."""
        for name, amount in waiting.amounts:
            if name in self.free:
                self.free[name] += amount

    def may_fit(self, waiting: Waiting) -> bool:
        """Whether there is room for it, if other runs have none and nobody goes first."""
        return self._fits(waiting.amounts, {})

    @property
    def held(self) -> dict[str, int]:
        """What admitted tasks have."""
        return {name: amount - self.free[name] for name, amount in self.total.items()}

    def oldest(self, name: str) -> Want | None:
        """What waits longest of those that want something; ``name`` is what others call us."""
        heads = [queue[0] for queue in self._queues.values() if queue[0].amounts]
        first = min(heads, key=lambda waiting: waiting.since, default=None)
        if first is None:
            return None
        return Want(dict(first.amounts), first.since, share_of(self.held, self.total), name)

    def admit(self, now: float, others: Others = ALONE, name: str = "") -> list[Waiting]:
        """Take out of the queue, and return, all that may start now beside what others have.

        What dead runs have left running is no reason to do nothing at all: it may wait for us.
        """
        admitted = self._admit(now, others, others.taken, name)
        if not admitted and others.orphaned and not any(self.held.values()) and not any(others.held.values()):
            admitted = self._admit(now, others, others.held, name, limit=1)
        return admitted

    def _admit(
        self, now: float, others: Others, taken: Units, name: str, limit: float = math.inf
    ) -> list[Waiting]:
        admitted: list[Waiting] = []
        heads = [(queue[0].order, key) for key, queue in self._queues.items()]
        heapq.heapify(heads)
        is_reserved = False
        while heads and len(admitted) < limit:
            _, key = heapq.heappop(heads)
            first = self._queues[key][0]
            if first.amounts and (is_reserved or self._gives_way(first, now, others, taken, name)):
                continue
            if self._fits(first.amounts, taken):
                self._take(key)
                admitted.append(first)
                if key in self._queues:
                    heapq.heappush(heads, (self._queues[key][0].order, key))
            elif now - first.since >= self._patience_s:
                # It has let others pass for long enough: none behind it that wants anything goes before it.
                is_reserved = True
        return admitted

    def _fits(self, amounts: Amounts, taken: Units) -> bool:
        free = self.free
        return all(free.get(name, amount) - taken.get(name, 0) >= amount for name, amount in amounts)

    def _gives_way(self, first: Waiting, now: float, others: Others, taken: Units, name: str) -> bool:
        if not others.wants:
            return False
        free = {each: amount - taken.get(each, 0) for each, amount in self.free.items()}
        mine = Want({}, first.since, share_of(self.held, self.total), name)
        return others.go_before(mine, free, now, self._patience_s)

    def _take(self, key: tuple[int, Amounts]) -> None:
        queue = self._queues[key]
        for name, amount in queue.popleft().amounts:
            if name in self.free:
                self.free[name] -= amount
        if not queue:
            del self._queues[key]


def amounts_of(resources: Mapping[str, float], *, round_up: bool = True) -> Amounts:
    """Resources in whole units, without those that are zero."""
    whole = math.ceil if round_up else math.floor
    return tuple(
        [
            (name, whole(amount if name in ("mem", "disk") else amount * _UNITS_PER_CORE))
            for name, amount in sorted(resources.items())
            if amount > 0
        ]
    )
