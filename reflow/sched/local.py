"""Tasks onto this machine: all of it is one pool of resources, never carved up and never over-committed.

`Admission` decides (no I/O, no clock of its own); `LocalScheduler` drives an executor. Tasks are admitted
by priority, then in order of arrival; what fits may pass what does not, until the latter has waited so
long that room is made for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from reflow.core.errors import Kind, ReflowError, is_transient, kind_of
from reflow.core.execconfig import ExecInspect
from reflow.core.resources import Resources
from reflow.core.units import format_general, format_size
from reflow.pool import Exec, Executor
from reflow.sched import Task, TaskOutcome
from reflow.sched.sharing import ALONE, Others, Units, Want, share_of

if TYPE_CHECKING:
    from reflow.sched import Scheduler
    from reflow.sched.ledger import Ledger

PATIENCE_S = 60.0
"""How long a task lets others pass while it does not fit."""

MAX_TRIES = 5
"""Tries at one task when the machinery, not the command, fails for a moment."""

POLL_S = 0.2
"""How often a run with tasks that wait looks whether other runs have left some room."""

POLL_ALONE_S = 1.0
"""How often it looks whether others have come."""

_UNITS_PER_CORE = 1000
_GIB = 1 << 30

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


class LocalScheduler:
    """Runs tasks on one executor, as many at once as its resources allow.

    ``retry_delay_s`` is the pause before the second try at a task whose machinery failed; it doubles. With a
    ``ledger`` (open; closed with the scheduler) other runs of this machine are taken into account.
    """

    def __init__(
        self,
        executor: Executor,
        *,
        patience_s: float = PATIENCE_S,
        retry_delay_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        ledger: Ledger | None = None,
    ) -> None:
        self._executor = executor
        self._ledger = ledger
        self._poll: asyncio.TimerHandle | None = None
        self._resources = executor.resources
        self._admission = Admission(self._resources, patience_s)
        self._admitted: dict[Waiting, asyncio.Future[None]] = {}
        self._retry_delay_s = retry_delay_s
        self._clock = clock
        self._is_closed = False

    @property
    def resources(self) -> Resources:
        """All of the machine: a task may have it."""
        return self._resources

    async def run(self, task: Task) -> TaskOutcome:
        """Run a task to its end; see `reflow.sched.Scheduler.run`."""
        error = self._refusal(task)
        if error is not None:
            return TaskOutcome(error=error)
        waiting = await self._wait_for_room(task)
        try:
            if self._is_closed:
                return TaskOutcome(error=ReflowError(Kind.CANCELED, "exec", task.config.ident or task.id))
            return await self._execute(task)
        finally:
            self._admission.release(waiting)
            self._let_in()

    def _refusal(self, task: Task) -> ReflowError | None:
        """Why a task can never run here, and what to change."""
        wanted, most = task.config.resources, self._resources
        lacking = [
            name
            for name, amount in wanted.items()
            if amount > most.amount(name) and (name != "disk" or name in most)
        ]
        if not lacking:
            return None
        shown = Resources({name: most.amount(name) for name in ("mem", "cpu", "disk", *lacking)})
        advice = ", ".join([_advice(name, most) for name in lacking])
        return ReflowError(
            Kind.RESOURCES_EXHAUSTED,
            f"required resource {wanted} greater than available {shown}",
            cause=f"exec {task.config.ident or task.id}: the most that can be had here is {advice}",
        )

    async def _wait_for_room(self, task: Task) -> Waiting:
        future = asyncio.get_running_loop().create_future()
        waiting = self._admission.ask(task.config.resources, task.priority, self._clock())
        self._admitted[waiting] = future
        self._let_in()
        try:
            await future
        except asyncio.CancelledError:
            if self._admitted.pop(waiting, None) is None:
                self._admission.release(waiting)
            else:
                self._admission.withdraw(waiting)
            self._let_in()
            raise
        return waiting

    def _let_in(self) -> None:
        for waiting in self._admit():
            future = self._admitted.pop(waiting)
            # One that was cancelled a moment ago gives its share back when its turn comes.
            if not future.done():
                future.set_result(None)

    def _admit(self) -> list[Waiting]:
        """Decide who starts now, together with the other runs if there are any."""
        now, ledger = self._clock(), self._ledger
        if ledger is None:
            return self._admission.admit(now)
        try:
            with ledger.turn(now) as others:
                if others is None:
                    self._look_again(POLL_S)
                    return []
                admitted = self._admission.admit(now, others, ledger.name)
                ledger.write(self._admission.held, self._admission.oldest(ledger.name), now)
        except OSError:
            # Its directory is gone, or the disk is broken: from now on this run is on its own.
            self._leave_ledger()
            return self._admission.admit(now)
        if len(self._admitted) > len(admitted):
            is_alone = not others.count and not others.orphaned
            self._look_again(POLL_ALONE_S if is_alone else POLL_S)
        return admitted

    def _look_again(self, delay_s: float) -> None:
        if self._poll is None:
            self._poll = asyncio.get_running_loop().call_later(delay_s, self._look)

    def _look(self) -> None:
        self._poll = None
        self._let_in()

    def _leave_ledger(self) -> None:
        if self._poll is not None:
            self._poll.cancel()
            self._poll = None
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None

    async def _execute(self, task: Task) -> TaskOutcome:
        """Run an admitted task; unless it ends by itself, nothing of it is left."""
        outcome: TaskOutcome | None = None
        try:
            outcome = await self._persist(task)
        finally:
            if outcome is None or outcome.error is not None:
                with contextlib.suppress(ReflowError):
                    await self._executor.remove(task.id)
        return outcome

    async def _persist(self, task: Task) -> TaskOutcome:
        """Try again, a few times, when the machinery fails for a moment."""
        started = task.on_start or _ignore
        for number in range(1, MAX_TRIES + 1):
            try:
                running = await self._executor.put(task.id, task.config, task.on_progress)
                started(running)
                started = _ignore
                await running.wait()
                return TaskOutcome(result=await running.result(), inspect=await _inspect(running))
            except ReflowError as err:
                if number == MAX_TRIES or not (is_transient(err) or kind_of(err) is Kind.NET):
                    return TaskOutcome(error=err)
            await asyncio.sleep(self._retry_delay_s * 2 ** (number - 1))
        raise AssertionError("the last try returns")

    async def close(self, *, kill: bool = False) -> None:
        """Let nothing more start, and stop the executor."""
        self._is_closed = True
        try:
            await self._executor.close(kill=kill)
        finally:
            self._leave_ledger()


def _ignore(running: Exec) -> None:
    """Its start was told before."""


async def _inspect(running: Exec) -> ExecInspect | None:
    """What is known of an exec that has ended; its result counts even if this cannot be had."""
    try:
        return await running.inspect()
    except ReflowError:
        return None


def _advice(name: str, most: Resources) -> str:
    amount = most.amount(name)
    if not amount:
        return f"no {name}: leave it out, or run on another machine"
    if name not in ("mem", "disk"):
        return f"{name} {format_general(amount)}: write {name} := {format_general(amount)} or less"
    whole_gib = int(amount // _GIB)
    setting = f"{whole_gib}*GiB" if whole_gib else str(int(amount))
    return f"{name} {format_size(amount)}: write {name} := {setting} or less"


if TYPE_CHECKING:
    _: type[Scheduler] = LocalScheduler
