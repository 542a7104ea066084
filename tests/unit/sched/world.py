"""A world for the scheduler's machine: allocs that come, fail and die, attempts that take their time."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from dataclasses import dataclass

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.resources import Requirements, Resources
from reflow.sched.event import (
    Allocate,
    AllocFailed,
    AllocLost,
    AllocReady,
    Cancel,
    Command,
    Ending,
    Event,
    Exited,
    Release,
    Report,
    Request,
    Staged,
    Start,
    Submitted,
    Tick,
)
from reflow.sched.machine import Machine
from reflow.sched.policy import Policy

GIB = float(1 << 30)
NET = ReflowError(Kind.NET, "world")
UNAVAILABLE = ReflowError(Kind.UNAVAILABLE, "world")


def a_task(name: object) -> Digest:
    return Digest.of_text(f"task {name}")


def ask(name: object, *, cpu: float = 1, mem: float = 1, priority: int = 0, **more: float) -> Request:
    """A request; ``mem`` in GiB."""
    return Request(a_task(name), Resources(mem=mem * GIB, cpu=cpu, **more), priority)


@dataclass
class Faults:
    """Chances of each fault."""

    alloc_fails: float = 0.0
    alloc_dies: float = 0.0
    attempt_is_lost: float = 0.0
    alloc_breaks: float = 0.0


class World:
    """Runs a machine against simulated time, and asserts that it never does what it must not.

    ``ended``: task -> its errors (None for a good end), one for each report.
    """

    def __init__(self, seed: int, max_allocs: int, faults: Faults, policy: Policy | None = None) -> None:
        self.machine = Machine(policy)
        self.now = 0.0
        self.random = random.Random(seed)
        self.max_allocs = max_allocs
        self.faults = faults
        self.requests: dict[Digest, Request] = {}
        self.ended: dict[Digest, list[ReflowError | None]] = {}
        self.allocs: dict[int, Resources] = {}
        self.asked: dict[int, Requirements] = {}
        self.used: dict[int, Resources] = {}
        self.running: dict[Digest, tuple[int, int]] = {}
        self.done: set[Digest] = set()
        self.finished: dict[Digest, float] = {}
        self.seen: Counter[str] = Counter()
        self.largest_fleet = 0
        self.check_every = 1
        self._future: list[tuple[float, int, Event]] = []
        self._serial = 0

    def at(self, delay_s: float, event: Event) -> None:
        """Let something happen later."""
        self._serial += 1
        when = self.now + delay_s
        heapq.heappush(self._future, (when, self._serial, event._replace(now=when)))

    def submit(self, delay_s: float, *requests: Request) -> None:
        """Let tasks be submitted later."""
        for request in requests:
            self.requests[request.task] = request
        self.at(delay_s, Submitted(requests, 0.0))

    def run(self, limit: int) -> None:
        """Go on until nothing happens any more; ``limit`` is the most that may happen."""
        for number in range(limit):
            event = self._next()
            if event is None:
                return
            self.now = event.now
            self.seen[type(event).__name__] += 1
            if self._is_moot(event):
                continue
            self._settle(event)
            for command in self.machine.handle(event):
                self._obey(command)
            if number % self.check_every == 0:
                self.machine.check_invariants()
        raise AssertionError(f"no end after {limit} events: {self.machine.counts()}")

    def _next(self) -> Event | None:
        wake = self.machine.next_wake()
        if self._future and (wake is None or self._future[0][0] <= wake):
            return heapq.heappop(self._future)[2]
        return None if wake is None else Tick(wake)

    def _is_moot(self, event: Event) -> bool:
        """Events of what is no more."""
        match event:
            case Exited(task, attempt) | Staged(task, attempt):
                return self.running.get(task, (-1, -1))[1] != attempt
            case AllocLost(alloc):
                return alloc not in self.allocs
            case AllocReady(alloc) | AllocFailed(alloc):
                return alloc not in self.asked
            case _:
                return False

    def _settle(self, event: Event) -> None:
        """What an event means for the world."""
        match event:
            case AllocReady(alloc, resources):
                del self.asked[alloc]
                self.allocs[alloc] = resources
                self.used[alloc] = Resources()
                self.largest_fleet = max(self.largest_fleet, len(self.allocs))
            case AllocFailed(alloc):
                del self.asked[alloc]
            case Exited(task, _, ending):
                alloc, _ = self.running.pop(task)
                self.used[alloc] -= self.requests[task].resources
                if ending is Ending.DONE:
                    self.done.add(task)
            case _:
                pass

    def _obey(self, command: Command) -> None:
        match command:
            case Allocate(alloc, requirements):
                self._allocate(alloc, requirements)
            case Start(task, attempt, alloc):
                self._start(task, attempt, alloc)
            case Cancel(task, attempt):
                assert self.running[task][1] == attempt
                usable = self.running[task][0] in self.allocs
                self.at(0.01, Exited(task, attempt, Ending.LOST, NET, usable, 0.0))
            case Release(alloc):
                assert not [task for task, place in self.running.items() if place[0] == alloc]
                self.asked.pop(alloc, None)
                self.allocs.pop(alloc, None)
            case Report(task, error):
                assert task not in self.running, "reported while it runs"
                self.ended.setdefault(task, []).append(error)
                self.finished[task] = self.now

    def _allocate(self, alloc: int, requirements: Requirements) -> None:
        self.asked[alloc] = requirements
        is_full = len(self.allocs) >= self.max_allocs
        if is_full or self.random.random() < self.faults.alloc_fails:
            self.at(self.random.uniform(0, 30), AllocFailed(alloc, UNAVAILABLE, False, 0.0))
            return
        has = requirements.minimum.scaled(min(1 + requirements.width, self.random.choice([1, 1, 2])))
        boot_s = self.random.uniform(1, 60)
        self.at(boot_s, AllocReady(alloc, has, 0.0))
        if self.random.random() < self.faults.alloc_dies:
            self.at(boot_s + self.random.expovariate(1 / 600), AllocLost(alloc, NET, 0.0))

    def _start(self, task: Digest, attempt: int, alloc: int) -> None:
        assert task not in self.running, "runs twice at once"
        assert task not in self.done, "runs again"
        assert alloc in self.allocs, "runs nowhere"
        self.running[task] = (alloc, attempt)
        self.used[alloc] += self.requests[task].resources
        assert self.allocs[alloc].scaled(1 + 1e-9).fits(self.used[alloc]), "over-committed"
        stage_s, run_s = self.random.uniform(0, 5), self.random.expovariate(1 / 60)
        self.at(stage_s, Staged(task, attempt, 0.0))
        if self.random.random() < self.faults.attempt_is_lost:
            is_usable = self.random.random() >= self.faults.alloc_breaks
            self.at(run_s / 2, Exited(task, attempt, Ending.LOST, UNAVAILABLE, is_usable, 0.0))
        else:
            self.at(stage_s + run_s, Exited(task, attempt, Ending.DONE, None, True, 0.0))
