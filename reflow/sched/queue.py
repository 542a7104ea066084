"""Tasks that wait for an alloc, in the order in which they may leave."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterator

from reflow.core.digest import Digest
from reflow.core.errors import ReflowError
from reflow.sched.amounts import Shape, size_of

Rank = tuple[int, float, Shape]
"""Priority (lower first), size (smaller first), and the shape, to tell those of one size apart."""


class Entry:
    """What the scheduler knows of a task that is not done.

    ``since`` is when it was submitted, ``queued_at`` when it began to wait this time. ``attempt`` counts
    from 0; ``error`` is what the last one was lost for.
    """

    __slots__ = ("attempt", "error", "key", "losses", "queued_at", "rank", "shape", "since")

    def __init__(self, key: Digest, shape: Shape, priority: int, since: float) -> None:
        self.key = key
        self.shape = shape
        self.rank: Rank = (priority, size_of(dict(shape)), shape)
        self.since = since
        self.queued_at = since
        self.attempt = 0
        self.losses = 0
        self.error: ReflowError | None = None


class Bucket:
    """Tasks of one priority and shape, in order of arrival: one at least; ``first`` leaves next."""

    __slots__ = ("entries", "first", "rank", "shape")

    def __init__(self, entry: Entry) -> None:
        self.rank = entry.rank
        self.shape = entry.shape
        self.first = entry
        self.entries: OrderedDict[Digest, Entry] = OrderedDict()


class TaskQueue:
    """Tasks by priority, then size, then arrival: tasks that are alike are looked at once."""

    def __init__(self) -> None:
        self._ranks: list[Rank] = []
        self._buckets: dict[Rank, Bucket] = {}
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __contains__(self, entry: Entry) -> bool:
        bucket = self._buckets.get(entry.rank)
        return bucket is not None and entry.key in bucket.entries

    def __iter__(self) -> Iterator[Entry]:
        return (entry for bucket in self.buckets() for entry in bucket.entries.values())

    def push(self, entry: Entry, *, first: bool = False) -> None:
        """Add a task behind those that are like it, or before them."""
        bucket = self._buckets.get(entry.rank)
        if bucket is None:
            bucket = self._buckets[entry.rank] = Bucket(entry)
            insort(self._ranks, entry.rank)
        bucket.entries[entry.key] = entry
        if first:
            bucket.entries.move_to_end(entry.key, last=False)
            bucket.first = entry
        self._length += 1

    def remove(self, entry: Entry) -> None:
        """Take a task out, wherever it is."""
        bucket = self._buckets[entry.rank]
        del bucket.entries[entry.key]
        if not bucket.entries:
            del self._buckets[entry.rank]
            del self._ranks[bisect_left(self._ranks, entry.rank)]
        elif bucket.first is entry:
            bucket.first = next(iter(bucket.entries.values()))
        self._length -= 1

    def buckets(self) -> list[Bucket]:
        """Those that are not empty, in order; tasks may be removed while they are gone through."""
        return [self._buckets[rank] for rank in self._ranks]
