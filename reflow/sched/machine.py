"""The alloc scheduler's decisions: told events, it answers commands. No I/O, no clock, no randomness.

Every task that was submitted is reported exactly once. Between the two it waits (to be queued, in the queue,
or for its next try) or it runs, in one attempt on one alloc. A lost attempt is started again only when it has
ended. Source: sched/scheduler.go, (*Scheduler).Do; what differs is told in `docs/differences.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import assert_never

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.resources import Requirements, Resources
from reflow.sched.allocs import Allocs, AllocState, Counts, Phase, Running
from reflow.sched.event import (
    Allocate,
    AllocFailed,
    AllocLost,
    AllocReady,
    Cancel,
    Cancelled,
    Closed,
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
from reflow.sched.policy import Policy
from reflow.sched.queue import Entry
from reflow.sched.requirements import Runs, allocatable, requirements
from reflow.sched.turn import Memory, Turn
from reflow.sched.waiting import Waiting


class Machine:
    """Tasks and allocs. ``can_allocate``, a pure function, says whether any alloc can have some resources."""

    def __init__(
        self,
        policy: Policy | None = None,
        can_allocate: Callable[[Resources], bool] = lambda resources: True,
    ) -> None:
        self._policy = policy or Policy()
        self._can_allocate = can_allocate
        self._now = float("-inf")
        self._waiting = Waiting(self._policy)
        self._queue = self._waiting.queue
        self._running: dict[Digest, Running] = {}
        self._allocs = Allocs()
        self._memory = Memory()
        self._kept: AllocState | None = None
        self._failures = 0
        self._ask_at = float("-inf")
        self._asks = False
        self._gave_up_at = float("-inf")
        self._is_closed = False
        self._commands: list[Command] = []

    def handle(self, event: Event) -> list[Command]:
        """Take note of an event, and say what is to be done."""
        return self.handle_all([event])

    def handle_all(self, events: Iterable[Event]) -> list[Command]:
        """Take note of events that came together, in their order, and decide once."""
        is_worth_it = False
        for event in events:
            assert event.now >= self._now, "time goes back"
            self._now = event.now
            self._note(event)
            is_worth_it |= not isinstance(event, Staged)
        if is_worth_it and not self._is_closed:
            self._plan()
        commands, self._commands = self._commands, []
        return commands

    def _note(self, event: Event) -> None:
        match event:
            case Submitted(requests):
                self._note_submitted(requests)
            case Cancelled(task):
                self._note_cancelled(task)
            case AllocReady(key, resources):
                self._note_ready(key, resources)
            case AllocFailed(key, error, is_final):
                self._note_failed(key, error, is_final=is_final)
            case AllocLost(key):
                self._note_lost(key)
            case Staged(task, attempt):
                running = self._running.get(task)
                if running is not None and running.entry.attempt == attempt:
                    running.is_staged = True
            case Exited():
                self._note_exited(event)
            case Tick():
                pass
            case Closed():
                self._note_closed()
            case _:
                assert_never(event)

    # What events change.

    def _note_submitted(self, requests: Iterable[Request]) -> None:
        if self._is_closed:
            for request in requests:
                self._commands.append(Report(request.task, _canceled(request.task)))
            return
        for request in requests:
            assert request.task not in self._running, f"task {request.task.short} is submitted twice"
        self._waiting.add(requests, self._now)

    def _note_cancelled(self, task: Digest) -> None:
        running = self._running.get(task)
        if running is not None:
            running.is_wanted = False
            self._end(running)
        elif task in self._waiting:
            self._drop(task, _canceled(task))

    def _note_ready(self, key: int, resources: Resources) -> None:
        alloc = self._allocs.get(key)
        if alloc is None:
            self._commands.append(Release(key))
            return
        assert alloc.phase is Phase.PENDING, f"alloc {key} is ready twice"
        self._asks = True
        if alloc.becomes_live(resources, self._now):
            self._memory.grown.add(key)
            self._failures = 0
            self._ask_at = self._now
            return
        wanted = alloc.requirements.minimum
        self._release(alloc)
        cause = f"the cluster gave {resources}, want {wanted}"
        self._count_failure(ReflowError(Kind.UNAVAILABLE, "allocate", cause=cause), is_final=False)

    def _note_failed(self, key: int, error: ReflowError, *, is_final: bool) -> None:
        alloc = self._allocs.get(key)
        if alloc is not None:
            self._allocs.forget(alloc)
            self._count_failure(error, is_final=is_final)

    def _count_failure(self, error: ReflowError, *, is_final: bool) -> None:
        """Wait before the next request; tasks that need one fail when there is no hope left."""
        backoff = self._policy.allocation
        self._asks = True
        self._ask_at = self._now + backoff.wait_s(self._failures)
        self._failures += 1
        # While there are allocs, the cluster works, and what they hold may come free.
        has_hope = self._failures <= backoff.retries or len(self._allocs) > len(
            self._allocs.of(Phase.PENDING)
        )
        if has_hope and not is_final:
            return
        self._failures = 0
        self._ask_at = self._now
        pending = self._allocs.of(Phase.PENDING)
        for entry in list(self._queue):
            is_expected = any(alloc.could_take(entry.shape) for alloc in pending)
            if not is_expected and not self._allocs.takes_some_day(entry.shape):
                self._drop(entry.key, ReflowError(Kind.OTHER, "task", entry.key.short, cause=error))

    def _note_lost(self, key: int) -> None:
        alloc = self._allocs.get(key)
        if alloc is None:
            return
        alloc.is_lost = True
        for task in alloc.running:
            self._end(self._running[task])
        self._leave(alloc)

    def _note_exited(self, event: Exited) -> None:
        running = self._running.pop(event.task, None)
        assert running is not None, f"task {event.task.short} ends, but does not run"
        entry, alloc = running.entry, running.alloc
        assert entry.attempt == event.attempt, f"attempt {event.attempt} of {event.task.short} ends twice"
        alloc.unassign(entry, self._now)
        self._memory.grown.add(alloc.key)
        self._asks = True
        if event.ending is Ending.DONE:
            alloc.strikes = 0
            self._commands.append(Report(entry.key, None))
        elif self._is_closed or not running.is_wanted:
            self._commands.append(Report(entry.key, _canceled(entry.key)))
        else:
            alloc.strikes += 1
            is_blameless = alloc.is_lost or not event.is_alloc_usable
            self._retry(entry, event.error, is_blameless=is_blameless)
        if not event.is_alloc_usable or alloc.strikes >= self._policy.max_strikes:
            alloc.phase = Phase.LEAVING
        if alloc.phase is Phase.LEAVING:
            self._leave(alloc)

    def _retry(self, entry: Entry, error: ReflowError | None, *, is_blameless: bool) -> None:
        """Queue a lost task again: at once, and first, when for the first time its alloc was lost."""
        backoff = self._policy.lost
        entry.error = error
        entry.losses += 1
        if entry.losses > backoff.retries:
            text = f"lost {entry.losses} times"
            failure = ReflowError(Kind.TOO_MANY_TRIES, "task", entry.key.short, text, cause=error)
            self._commands.append(Report(entry.key, failure))
            return
        entry.attempt += 1
        wait_s = 0.0 if is_blameless and entry.losses == 1 else backoff.wait_s(entry.losses - 1)
        self._waiting.again(entry, self._now + wait_s, self._now)

    def _note_closed(self) -> None:
        self._is_closed = True
        for task in self._waiting:
            self._drop(task, _canceled(task))
        for running in self._running.values():
            self._end(running)
        for alloc in self._allocs:
            if alloc.phase is Phase.PENDING:
                self._release(alloc)
            else:
                self._leave(alloc)

    # Steps that several events share.

    def _drop(self, task: Digest, error: ReflowError) -> None:
        """Let a waiting task wait no longer."""
        self._waiting.drop(task)
        self._commands.append(Report(task, error))

    def _end(self, running: Running) -> None:
        if not running.is_ending:
            running.is_ending = True
            self._commands.append(Cancel(running.entry.key, running.entry.attempt))

    def _leave(self, alloc: AllocState) -> None:
        """Give an alloc no more tasks, and release it when it has none."""
        alloc.phase = Phase.LEAVING
        if not alloc.running:
            self._release(alloc)

    def _release(self, alloc: AllocState) -> None:
        self._allocs.forget(alloc)
        self._commands.append(Release(alloc.key))

    # What follows.

    def _plan(self) -> None:
        self._asks |= self._waiting.queue_due(self._now)
        self._assign()
        self._shed_idle()
        self._shed_for_starving()
        self._ask()

    def _assign(self) -> None:
        if self._kept is not None and self._kept.slot.kept_for not in self._waiting:
            self._keep(None)
        if not self._queue:
            return
        slots = [alloc.slot for alloc in self._allocs.of(Phase.LIVE)]
        turn = Turn(self._queue, slots, self._now, self._policy, self._memory)
        turn.run()
        for entry, slot in turn.matches:
            alloc = self._allocs[slot.key]
            self._waiting.left(entry)
            alloc.assign(entry)
            self._running[entry.key] = Running(entry, alloc)
            self._commands.append(Start(entry.key, entry.attempt, slot.key))
        self._keep(turn.hungry)

    def _keep(self, hungry: Entry | None) -> None:
        """Keep an alloc for a task that has waited too long, one at a time."""
        kept = self._kept
        if kept is not None:
            is_live = kept.phase is Phase.LIVE
            if hungry is not None and is_live and kept.slot.kept_for == hungry.key:
                return
            kept.slot.kept_for = None
            self._memory.grown.add(kept.key)
        self._kept = None if hungry is None else self._allocs.roomiest(hungry.shape)
        if self._kept is not None and hungry is not None:
            self._kept.slot.kept_for = hungry.key

    def _idle_limit_s(self, alloc: AllocState) -> float:
        """How long an alloc may be idle: not long, while others wait that it is no good for."""
        is_useless = bool(self._queue) and not any(
            alloc.could_take(bucket.shape) for bucket in self._queue.buckets()
        )
        return self._policy.squeeze_s if is_useless else self._policy.idle_s

    def _idle(self) -> list[AllocState]:
        return [
            alloc for alloc in self._allocs.of(Phase.LIVE) if not alloc.running and alloc is not self._kept
        ]

    def _shed_idle(self) -> None:
        for alloc in self._idle():
            if alloc.idle_since + self._idle_limit_s(alloc) <= self._now:
                self._release(alloc)

    def _starving(self) -> Entry | None:
        """A task that has waited for very long and fits none of the allocs there are."""
        for bucket in self._queue.buckets():
            entry = bucket.first
            if entry.queued_at + self._policy.starve_s <= self._now and not self._allocs.takes_some_day(
                entry.shape
            ):
                return entry
        return None

    def _shed_for_starving(self) -> None:
        """Give up one alloc, the one with the fewest tasks, so that a cluster that is full gets room."""
        live = self._allocs.of(Phase.LIVE)
        if not live or self._allocs.of(Phase.LEAVING) or self._next_shed() > self._now:
            return
        if self._starving() is not None:
            self._gave_up_at = self._now
            self._leave(min(live, key=lambda alloc: (len(alloc.running), alloc.key)))

    def _next_shed(self) -> float:
        return self._gave_up_at + self._policy.stale_s

    def _ask(self) -> None:
        """Ask for one alloc, if there are tasks that those asked for already will not take."""
        pending = self._allocs.of(Phase.PENDING)
        for alloc in pending:
            if not alloc.slot.is_stale and alloc.asked_at + self._policy.stale_s <= self._now:
                alloc.slot.is_stale = self._asks = True
        if not self._queue or len(pending) >= self._policy.max_pending or self._ask_at > self._now:
            return
        if pending and not self._asks:
            return
        self._asks = False
        promises = Turn(self._queue, [alloc.slot.copy() for alloc in pending], self._now, self._policy)
        promises.promise()
        runs = [(bucket.shape, len(bucket.entries)) for bucket in self._queue.buckets()]
        promises.put_back()
        if runs:
            self._ask_for(runs)

    def _ask_for(self, runs: Runs) -> None:
        least = self._policy.min_alloc
        packed = requirements(allocatable(runs, self._can_allocate, least) or runs[-1:])
        wanted = Requirements(packed.minimum.at_least(least), packed.width)
        self._commands.append(Allocate(self._allocs.ask(wanted, self._now).key, wanted))

    # For the driver and for tests.

    def next_wake(self) -> float | None:
        """When to send a Tick, unless something else happens before; None when nothing waits for time."""
        times = [time for time in self._times() if time > self._now]
        return min(times, default=None)

    def _times(self) -> Iterator[float]:
        policy = self._policy
        yield from self._waiting.times(self._now)
        for alloc in self._idle():
            yield alloc.idle_since + (policy.squeeze_s if self._queue else policy.idle_s)
            yield alloc.idle_since + policy.idle_s
        if self._queue:
            yield self._ask_at
            yield self._next_shed()
            for alloc in self._allocs.of(Phase.PENDING):
                yield alloc.asked_at + policy.stale_s

    def counts(self) -> Counts:
        """How much of everything there is."""
        staged = sum(running.is_staged for running in self._running.values())
        allocs = {phase: len(self._allocs.of(phase)) for phase in Phase}
        return Counts(len(self._waiting), len(self._running) - staged, staged, allocs)

    def check_invariants(self) -> None:
        """Assert what must hold after every event."""
        self._waiting.check()
        for alloc in self._allocs:
            alloc.check()
            for task, entry in alloc.running.items():
                running = self._running.get(task)
                assert running is not None, f"task {task.short} is on alloc {alloc.key}, but does not run"
                assert running.alloc is alloc
                assert running.entry is entry
            assert alloc.running or alloc.phase is not Phase.LEAVING, f"alloc {alloc.key} was not released"
        placed = sum(len(alloc.running) for alloc in self._allocs)
        assert placed == len(self._running), "a running task is on no alloc"
        assert not any(task in self._waiting for task in self._running), "a task waits and runs"
        assert len(self._allocs.of(Phase.PENDING)) <= self._policy.max_pending
        assert not self._is_closed or not len(self._waiting), "a task waits after the end"
        is_moving = self._running or self._allocs.of(Phase.PENDING) or self.next_wake() is not None
        assert is_moving or not len(self._waiting), "tasks wait for nothing"


def _canceled(task: Digest) -> ReflowError:
    return ReflowError(Kind.CANCELED, "task", task.short)
