"""Tasks onto this machine: all of it is one pool of resources, never carved up and never over-committed.

`admission` decides, `rooms` gives room to those that it lets in, `LocalScheduler` drives an executor. Tasks
are admitted by priority, then in order of arrival; what fits may pass what does not, until the latter has
waited so long that room is made for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from reflow.core.errors import Kind, ReflowError, is_transient, kind_of
from reflow.core.execconfig import ExecInspect
from reflow.core.resources import Resources
from reflow.core.units import format_general, format_size
from reflow.pool import Exec, Executor
from reflow.sched import Task, TaskOutcome
from reflow.sched.admission import PATIENCE_S, Admission
from reflow.sched.rooms import Room, Rooms
from reflow.sched.telling import Telling

if TYPE_CHECKING:
    from reflow.sched import Scheduler
    from reflow.sched.ledger import Ledger

MAX_TRIES = 5
"""Tries at one task when the machinery, not the command, fails for a moment."""

_GIB = 1 << 30


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
        self._resources = executor.resources
        self._rooms = Rooms(Admission(self._resources, patience_s), clock, ledger)
        self._retry_delay_s = retry_delay_s

    @property
    def resources(self) -> Resources:
        """All of the machine: a task may have it."""
        return self._resources

    async def run(self, task: Task) -> TaskOutcome:
        """Run a task to its end; see `reflow.sched.Scheduler.run`."""
        error = self.refusal(task)
        if error is not None:
            return TaskOutcome(error=error)
        name = task.config.ident or str(task.id)
        telling = None if task.on_progress is None else Telling(task.on_progress)
        room = Room(self._rooms, name, task.config.resources, task.priority, telling)
        outcome: TaskOutcome | None = None
        try:
            await room.approach()
            outcome = await self._execute(task, room)
        except ReflowError as err:
            outcome = TaskOutcome(error=err)
        finally:
            if outcome is None or outcome.has_succeeded:
                room.leave()
            else:
                # When our caller knows: it may cancel those that wait, and they must not have begun by then.
                asyncio.get_running_loop().call_soon(room.leave)
        return outcome

    def refusal(self, task: Task) -> ReflowError | None:
        """Why a task can never run here, and what to change."""
        wanted, most = task.config.resources, self._resources
        lacking = most.short_of(wanted)
        if not lacking:
            return None
        shown = Resources({name: most.amount(name) for name in ("mem", "cpu", "disk", *lacking)})
        advice = ", ".join([_advice(name, most) for name in lacking])
        return ReflowError(
            Kind.RESOURCES_EXHAUSTED,
            f"required resource {wanted} greater than available {shown}",
            cause=f"exec {task.config.ident or task.id}: the most that can be had here is {advice}",
        )

    async def _execute(self, task: Task, room: Room) -> TaskOutcome:
        """Run an admitted task; unless it ends by itself, nothing of it is left."""
        outcome: TaskOutcome | None = None
        try:
            outcome = await self._persist(task, room)
        finally:
            if outcome is None or outcome.error is not None:
                with contextlib.suppress(ReflowError):
                    await self._executor.remove(task.id)
        return outcome

    async def _persist(self, task: Task, room: Room) -> TaskOutcome:
        """Try again, a few times, when the machinery fails for a moment."""
        started = task.on_start or _ignore
        progress = None if room.telling is None else room.telling.does
        for number in range(1, MAX_TRIES + 1):
            try:
                running = await self._executor.put(task.id, task.config, progress, room)
                started(running)
                started = _ignore
                await running.wait()
                return TaskOutcome(result=await running.result(), inspect=await _inspect(running))
            except ReflowError as err:
                if number == MAX_TRIES or not (is_transient(err) or kind_of(err) is Kind.NET):
                    return TaskOutcome(error=err)
            room.leave()
            await asyncio.sleep(self._retry_delay_s * 2 ** (number - 1))
        raise AssertionError("the last try returns")

    async def close(self, *, kill: bool = False) -> None:
        """Let nothing more start, and stop the executor."""
        self._rooms.close()
        try:
            await self._executor.close(kill=kill)
        finally:
            self._rooms.forget()


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
