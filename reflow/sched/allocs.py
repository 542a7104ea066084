"""The allocs of the scheduler: those asked for, those in use, those on their way out."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import NamedTuple

from reflow.core.digest import Digest
from reflow.core.resources import Requirements, Resources
from reflow.sched.amounts import Shape, capacity_of, fits
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
        self.asked_at = now
        self.idle_since = now
        self.strikes = 0
        self.running: dict[Digest, Entry] = {}
        self.slot = _empty_slot(key, requirements.minimum)

    def becomes_live(self, resources: Resources, now: float) -> bool:
        """Take over what the alloc really has; false when that is less than was asked for."""
        minimum = self.slot.capacity
        self.slot = _empty_slot(self.key, resources)
        self.phase = Phase.LIVE
        self.idle_since = now
        return fits(self.slot.capacity, tuple(minimum.items()))

    def assign(self, entry: Entry) -> None:
        """Note that a task runs here. Its share was taken by the turn."""
        self.running[entry.key] = entry

    def unassign(self, entry: Entry, now: float) -> None:
        """Take a task's share back."""
        del self.running[entry.key]
        self.slot.give(entry.shape)
        if not self.running:
            self.idle_since = now

    def could_take(self, shape: Shape) -> bool:
        """Tell whether a task would fit if nothing else ran here."""
        return fits(self.slot.capacity, shape)

    def check(self) -> None:
        """Assert that what is free and what runs are all there is."""
        used: dict[str, int] = {}
        for entry in self.running.values():
            for name, amount in entry.shape:
                used[name] = used.get(name, 0) + amount
        slot = self.slot
        for name in {*slot.capacity, *used}:
            free = slot.free.get(name, 0)
            assert free >= 0, f"alloc {self.key} is over-committed in {name}"
            assert free + used.get(name, 0) == slot.capacity.get(name, 0), f"alloc {self.key} leaks {name}"
        assert self.phase is not Phase.PENDING or not self.running


def _empty_slot(key: int, resources: Resources) -> Slot:
    capacity = capacity_of(resources)
    return Slot(key, capacity, capacity)


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
        return any(alloc.could_take(shape) for alloc in self.of(Phase.LIVE))

    def roomiest(self, shape: Shape) -> AllocState | None:
        """The one in use with most free of those that could take a task if they were empty."""
        able = [alloc for alloc in self.of(Phase.LIVE) if alloc.could_take(shape)]
        return max(able, key=lambda alloc: (alloc.slot.size, -alloc.key), default=None)


class Running:
    """A task on an alloc. ``is_wanted`` is false when it was cancelled."""

    __slots__ = ("alloc", "entry", "is_ending", "is_staged", "is_wanted")

    def __init__(self, entry: Entry, alloc: AllocState) -> None:
        self.entry = entry
        self.alloc = alloc
        self.is_staged = False
        self.is_wanted = True
        self.is_ending = False


class Counts(NamedTuple):
    """Tasks by what they do, and allocs by phase."""

    waiting: int
    staging: int
    running: int
    allocs: dict[Phase, int]
