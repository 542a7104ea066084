"""Which waiting task goes onto which alloc: pure decisions over the queue and what is free.

The smallest task goes to the smallest alloc that takes it; an alloc that cannot take it is out for this turn,
and so are larger tasks when none can. Time softens that: see `reflow.sched.policy.Policy`.
Source: sched/scheduler.go, (*Scheduler).assign.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from reflow.core.digest import Digest
from reflow.sched.amounts import Shape, fits, size_of
from reflow.sched.policy import Policy
from reflow.sched.queue import Bucket, Entry, TaskQueue


class Slot:
    """What an alloc has, what is free of it, and the task it is kept for, if any.

    One that was asked for only is stale when that is long ago.
    """

    __slots__ = ("capacity", "free", "is_stale", "kept_for", "key", "size")

    def __init__(self, key: int, capacity: Mapping[str, int], free: Mapping[str, int]) -> None:
        self.key = key
        self.capacity = capacity
        self.free = dict(free)
        self.size = size_of(self.free)
        self.kept_for: Digest | None = None
        self.is_stale = False

    def copy(self) -> Slot:
        """One to try things with."""
        slot = Slot(self.key, self.capacity, self.free)
        slot.is_stale = self.is_stale
        return slot

    def take(self, shape: Shape) -> None:
        """Give away what a task wants."""
        for name, amount in shape:
            self.free[name] -= amount
        self.size = size_of(self.free)

    def give(self, shape: Shape) -> None:
        """Take back what a task had."""
        for name, amount in shape:
            self.free[name] += amount
        self.size = size_of(self.free)


class Memory:
    """What one turn leaves for the next: shapes that found no room, and allocs that gained some since."""

    __slots__ = ("full", "grown")

    def __init__(self) -> None:
        self.full: set[Shape] = set()
        self.grown: set[int] = set()


class Match(NamedTuple):
    """A task, and the alloc it goes to."""

    entry: Entry
    slot: Slot


class Turn:
    """One pass over the queue. Tasks that found a place have left it; ``matches`` has them.

    ``hungry`` is the one that has waited longest beyond patience and that an alloc could take if it were
    empty.
    """

    def __init__(
        self,
        queue: TaskQueue,
        slots: Sequence[Slot],
        now: float,
        policy: Policy,
        memory: Memory | None = None,
    ) -> None:
        self.matches: list[Match] = []
        self.hungry: Entry | None = None
        self._queue = queue
        self._slots = slots
        self._now = now
        self._policy = policy
        self._memory = memory or Memory()
        self._failed: set[Shape] = set()
        self._grown = [slot for slot in slots if slot.key in self._memory.grown]

    def run(self) -> None:
        """Place what can be placed."""
        if self._slots:
            self._place_old()
            self._place_in_order()
        if self._memory.grown:
            # Of shapes that nobody tried it is not known whether they would fit now.
            self._memory.full &= self._failed
            self._memory.grown.clear()

    def promise(self) -> None:
        """Place tasks onto allocs that were asked for only: those left in the queue need others.

        A stale request is for the largest task alone that it is good for.
        """
        for slot in self._slots:
            if slot.is_stale:
                self._place_largest(slot)
        self._slots = [slot for slot in self._slots if not slot.is_stale]
        self.run()

    def put_back(self) -> None:
        """Undo: all tasks that found a place wait again, in their old order."""
        for match in reversed(self.matches):
            self._queue.push(match.entry, first=True)

    def _place(self, entry: Entry, slot: Slot) -> None:
        self._queue.remove(entry)
        slot.take(entry.shape)
        if slot.kept_for == entry.key:
            slot.kept_for = None
        self.matches.append(Match(entry, slot))

    def _place_largest(self, slot: Slot) -> None:
        for bucket in reversed(self._queue.buckets()):
            if fits(slot.free, bucket.shape):
                self._place(bucket.first, slot)
                return

    def _place_old(self) -> None:
        """Those that have waited for too long: by priority, then whoever waits longest."""
        patience_s = self._policy.patience_s
        heads = [
            ((bucket.rank[0], bucket.first.since, number), bucket)
            for number, bucket in enumerate(self._queue.buckets())
            if bucket.first.since + patience_s <= self._now
        ]
        heapq.heapify(heads)
        while heads:
            order, bucket = heapq.heappop(heads)
            entry = bucket.first
            slot = self._smallest(entry)
            if slot is None:
                if self.hungry is None and any(fits(each.capacity, entry.shape) for each in self._slots):
                    self.hungry = entry
                continue
            self._place(entry, slot)
            if bucket.entries and bucket.first.since + patience_s <= self._now:
                heapq.heappush(heads, ((order[0], bucket.first.since, order[2]), bucket))

    def _place_in_order(self) -> None:
        pass_s = self._policy.pass_s
        open_slots: list[Slot] | None = None
        number = 0
        for bucket in self._queue.buckets():
            while bucket.entries and bucket.first.since + pass_s <= self._now:
                slot = self._smallest(bucket.first)
                if slot is None:
                    break
                self._place(bucket.first, slot)
            if bucket.entries and bucket.first.since + pass_s > self._now:
                if open_slots is None:
                    open_slots = self._open_slots()
                number = self._fill(bucket, open_slots, number)

    def _open_slots(self) -> list[Slot]:
        """Those that are not kept for anybody, the smallest first."""
        slots = [slot for slot in self._slots if slot.kept_for is None]
        return sorted(slots, key=lambda slot: (slot.size, slot.key))

    def _fill(self, bucket: Bucket, slots: Sequence[Slot], number: int) -> int:
        """Place a bucket's tasks from slot ``number`` on; the slot that took the last one, or their number.

        The slots are sorted, and the one that takes a task stays the smallest of those that are left.
        """
        while bucket.entries and number < len(slots):
            if fits(slots[number].free, bucket.shape):
                self._place(bucket.first, slots[number])
            else:
                number += 1
        return number

    def _smallest(self, entry: Entry) -> Slot | None:
        """The smallest alloc with room for a task; one that is kept for it goes before all others."""
        best: Slot | None = None
        full = self._memory.full
        for slot in self._grown if entry.shape in full else self._slots:
            if slot.kept_for not in (None, entry.key) or not fits(slot.free, entry.shape):
                continue
            if slot.kept_for is not None:
                return slot
            if best is None or (slot.size, slot.key) < (best.size, best.key):
                best = slot
        if best is None:
            full.add(entry.shape)
            self._failed.add(entry.shape)
        else:
            full.discard(entry.shape)
        return best
