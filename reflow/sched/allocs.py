"""The allocs of the scheduler: those asked for, those in use, those on their way out."""

from __future__ import annotations

import enum
from collections.abc import Iterator

from reflow.core.digest import Digest
from reflow.core.resources import Requirements, Resources
from reflow.sched.amounts import Shape, capacity_of, fits, size_of
from reflow.sched.queue import Entry
from reflow.sched.turn import Slot


class Phase(enum.Enum):
    """Where an alloc is in its life."""

    PENDING = "pending"
    LIVE = "live"
    LEAVING = "leaving"
    """It gets no more tasks, and is released when the last one has ended."""


class AllocState:
    """One alloc. A pending one has the least that was asked for.

    ``strikes`` is the number of tasks that it lost since the last one that it did not.
    """

    def __init__(self, key: int, requirements: Requirements, now: float) -> None:
        self.key = key
        self.requirements = requirements
        self.phase = Phase.PENDING
        self.is_lost = False
        self.is_stale = False
        self.asked_at = now
        self.idle_since = now
        self.strikes = 0
        self.running: dict[Digest, Entry] = {}
        self.capacity = capacity_of(requirements.minimum)
        self.free = dict(self.capacity)

    def becomes_live(self, resources: Resources, now: float) -> bool:
        """Take over what the alloc really has; false when that is less than was asked for."""
        minimum = self.capacity
        self.capacity = capacity_of(resources)
        self.free = dict(self.capacity)
        self.phase = Phase.LIVE
        self.idle_since = now
        return fits(self.capacity, tuple(minimum.items()))

    def assign(self, entry: Entry) -> None:
        """Give a task its share."""
        self.running[entry.key] = entry
        for name, amount in entry.shape:
            self.free[name] -= amount

    def unassign(self, entry: Entry, now: float) -> None:
        """Take a task's share back."""
        del self.running[entry.key]
        for name, amount in entry.shape:
            self.free[name] += amount
        if not self.running:
            self.idle_since = now

    def slot(self, kept_for: Digest | None = None) -> Slot:
        """The alloc as a turn sees it."""
        return Slot(self.key, self.capacity, self.free, kept_for=kept_for, is_stale=self.is_stale)

    def check(self) -> None:
        """Assert that what is free and what runs are all there is."""
        used: dict[str, int] = {}
        for entry in self.running.values():
            for name, amount in entry.shape:
                used[name] = used.get(name, 0) + amount
        for name in {*self.capacity, *used}:
            free = self.free.get(name, 0)
            assert free >= 0, f"alloc {self.key} is over-committed in {name}"
            assert free + used.get(name, 0) == self.capacity.get(name, 0), f"alloc {self.key} leaks {name}"
        assert self.phase is not Phase.PENDING or not self.running


class Allocs:
    """All allocs that were not released yet."""

    def __init__(self) -> None:
        self._by_key: dict[int, AllocState] = {}
        self._next_key = 0

    def __len__(self) -> int:
        return len(self._by_key)

    def __iter__(self) -> Iterator[AllocState]:
        return iter(list(self._by_key.values()))

    def __contains__(self, key: int) -> bool:
        return key in self._by_key

    def __getitem__(self, key: int) -> AllocState:
        return self._by_key[key]

    def get(self, key: int) -> AllocState | None:
        """An alloc, unless it was released."""
        return self._by_key.get(key)

    def ask(self, requirements: Requirements, now: float) -> AllocState:
        """Note that an alloc is asked for."""
        alloc = AllocState(self._next_key, requirements, now)
        self._next_key += 1
        self._by_key[alloc.key] = alloc
        return alloc

    def forget(self, alloc: AllocState) -> None:
        """It was released."""
        assert not alloc.running, f"alloc {alloc.key} is released while tasks run there"
        del self._by_key[alloc.key]

    def of(self, phase: Phase) -> list[AllocState]:
        """Those of one phase, the oldest first."""
        return [alloc for alloc in self._by_key.values() if alloc.phase is phase]

    def takes_some_day(self, shape: Shape) -> bool:
        """Tell whether a task would fit one that is in use, if it were empty."""
        return any(fits(alloc.capacity, shape) for alloc in self.of(Phase.LIVE))

    def roomiest(self, shape: Shape) -> AllocState | None:
        """The one in use with most free of those that could take a task if they were empty."""
        able = [alloc for alloc in self.of(Phase.LIVE) if fits(alloc.capacity, shape)]
        return max(able, key=lambda alloc: (size_of(alloc.free), -alloc.key), default=None)
