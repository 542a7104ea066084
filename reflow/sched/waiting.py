"""Tasks that do not run: those that just came, those in the queue, and those that wait for their next try."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator

from reflow.core.digest import Digest
from reflow.sched.amounts import shape_of
from reflow.sched.event import Request
from reflow.sched.policy import Policy
from reflow.sched.queue import Entry, TaskQueue


class Waiting:
    """All tasks that wait. Submissions are held until no more come, so that the queue sees the widest set."""

    def __init__(self, policy: Policy) -> None:
        self.queue = TaskQueue()
        self._policy = policy
        self._entries: dict[Digest, Entry] = {}
        self._arrivals: dict[Digest, Entry] = {}
        self._first_arrival = 0.0
        self._last_arrival = 0.0
        self._delayed: list[tuple[float, int, Entry]] = []
        self._serial = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, task: object) -> bool:
        return task in self._entries

    def __iter__(self) -> Iterator[Digest]:
        return iter(list(self._entries))

    def add(self, requests: Iterable[Request], now: float) -> None:
        """Take in what was submitted."""
        if not self._arrivals:
            self._first_arrival = now
        self._last_arrival = now
        for request in requests:
            assert request.task not in self._entries, f"task {request.task.short} is submitted twice"
            entry = Entry(request.task, shape_of(request.resources), request.priority, now)
            self._entries[entry.key] = self._arrivals[entry.key] = entry

    def again(self, entry: Entry, at: float, now: float) -> None:
        """Take in a task that is to be run again, from some time on; it goes first."""
        entry.queued_at = max(at, now)
        self._entries[entry.key] = entry
        if at <= now:
            self.queue.push(entry, first=True)
            return
        self._serial += 1
        heapq.heappush(self._delayed, (at, self._serial, entry))

    def left(self, entry: Entry) -> None:
        """Note that a task was taken from the queue: it runs."""
        del self._entries[entry.key]

    def drop(self, task: Digest) -> None:
        """Let a task wait no longer."""
        entry = self._entries.pop(task)
        if entry in self.queue:
            self.queue.remove(entry)
        else:
            self._arrivals.pop(task, None)

    def queue_due(self, now: float) -> bool:
        """Queue those whose time has come; whether there were any."""
        before = len(self.queue)
        if self._arrivals and self._arrivals_due() <= now:
            for entry in self._arrivals.values():
                self.queue.push(entry)
            self._arrivals.clear()
        while self._delayed and self._delayed[0][0] <= now:
            entry = heapq.heappop(self._delayed)[2]
            if entry.key in self._entries:
                self.queue.push(entry, first=True)
        return len(self.queue) > before

    def times(self, now: float) -> Iterator[float]:
        """When something of this changes by itself; some of it may be past."""
        policy = self._policy
        if self._arrivals:
            yield self._arrivals_due()
        if self._delayed:
            yield self._delayed[0][0]
        for bucket in self.queue.buckets():
            first = bucket.first
            time = first.since + policy.pass_s
            if time <= now:
                time = first.since + policy.patience_s
            yield time
            yield first.queued_at + policy.starve_s

    def _arrivals_due(self) -> float:
        return min(
            self._last_arrival + self._policy.drain_s, self._first_arrival + self._policy.drain_limit_s
        )

    def check(self) -> None:
        """Assert that each task is in one place."""
        delayed = [entry.key for _, _, entry in self._delayed if entry.key in self._entries]
        places = [*self._arrivals, *[entry.key for entry in self.queue], *delayed]
        assert len(places) == len(self.queue) + len(self._arrivals) + len(delayed)
        assert sorted(places) == sorted(self._entries), "a task waits in two places, or in none"
