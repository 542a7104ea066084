"""The alloc scheduler's hands: it runs what the machine commands, and tells it what came of it.

Use it with ``async with``: inside, `run` runs tasks; at the end all allocs are freed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar, assert_never

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError, kind_of
from reflow.core.resources import Requirements, Resources
from reflow.pool import Alloc, AllocExec, Cluster
from reflow.pool.lease import CALL_TIMEOUT_S, LeaseKeeper
from reflow.sched import Task, TaskOutcome
from reflow.sched.allocs import Counts
from reflow.sched.attempt import Attempt, AttemptEnd, Surroundings
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
from reflow.sched.machine import Machine
from reflow.sched.policy import Policy

if TYPE_CHECKING:
    from reflow.sched import Scheduler

T = TypeVar("T")

_FINAL = frozenset(
    {Kind.NOT_ALLOWED, Kind.NOT_SUPPORTED, Kind.INVALID, Kind.FATAL, Kind.PRECONDITION, Kind.NOT_EXIST}
)
"""Answers of a cluster that asking again does not change."""


class _Job:
    """A task that somebody waits for."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.exec_id = task.id
        self.outcome: TaskOutcome | None = None
        self.is_over = asyncio.Event()
        self.work: asyncio.Task[AttemptEnd] | None = None


class _Host:
    """An alloc, from the request for it until it is freed."""

    def __init__(self) -> None:
        self.alloc: Alloc | None = None
        self.is_lost = False
        self.life: asyncio.Task[None] | None = None


class ClusterScheduler:
    """Runs tasks on allocs of a cluster. ``say`` is told what people may want to know.

    ``labels`` go onto every alloc. ``clock`` is a steady clock in seconds.
    """

    def __init__(
        self,
        cluster: Cluster,
        surroundings: Surroundings,
        *,
        policy: Policy | None = None,
        labels: Mapping[str, str] | None = None,
        say: Callable[[str], None] = lambda text: None,
        clock: Callable[[], float] = time.monotonic,
        keeper: Callable[[Alloc, Callable[[str], None]], LeaseKeeper] = LeaseKeeper,
    ) -> None:
        self._cluster = cluster
        self._around = surroundings
        self._labels = labels or {}
        self._say = say
        self._clock = clock
        self._keeper = keeper
        self._machine = Machine(policy, lambda resources: not cluster.refusal(resources))
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._jobs: dict[Digest, _Job] = {}
        self._hosts: dict[int, _Host] = {}
        self._group: asyncio.TaskGroup | None = None
        self._serving: asyncio.Task[None] | None = None
        self._is_closed = False

    async def __aenter__(self) -> ClusterScheduler:
        self._group = asyncio.TaskGroup()
        await self._group.__aenter__()
        self._serving = self._group.create_task(self._serve())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._group is not None
        try:
            await self.close()
        finally:
            if isinstance(error, asyncio.CancelledError):
                await self._group.__aexit__(kind, error, trace)
            else:
                # An error of the one who uses this is to go on as it is, not as one of a group.
                await self._group.__aexit__(None, None, None)

    @property
    def resources(self) -> Resources:
        """The most that any one task can get."""
        return self._cluster.resources

    @property
    def counts(self) -> Counts:
        """How many tasks and allocs there are."""
        return self._machine.counts()

    async def run(self, task: Task) -> TaskOutcome:
        """Run a task to its end; see `reflow.sched.Scheduler.run`."""
        why_not = self._cluster.refusal(task.config.resources)
        if why_not:
            return TaskOutcome(error=self._refuse(task, why_not))
        if self._is_closed:
            return TaskOutcome(error=ReflowError(Kind.CANCELED, "exec", task.config.ident or task.id))
        job = self._jobs[task.id] = _Job(task)
        self._post(Submitted([Request(task.id, task.config.resources, task.priority)], 0.0))
        try:
            await job.is_over.wait()
        except asyncio.CancelledError:
            self._post(Cancelled(task.id, 0.0))
            await job.is_over.wait()
            raise
        assert job.outcome is not None
        return job.outcome

    def _refuse(self, task: Task, why_not: str) -> ReflowError:
        return ReflowError(
            Kind.RESOURCES_EXHAUSTED,
            f"cluster {self._cluster.name} can never give {task.config.resources}",
            cause=f"exec {task.config.ident or task.id}: {why_not}",
        )

    async def close(self, *, kill: bool = False) -> None:
        """End what runs and free all allocs. There is no other way to leave a cluster, ``kill`` or not."""
        self._close()
        if self._serving is not None:
            await asyncio.wait([self._serving])

    def _close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._post(Closed(0.0))

    # Events and commands.

    def _post(self, event: Event) -> None:
        """Tell the machine; the time is filled in when it is told."""
        self._events.put_nowait(event)

    async def _serve(self) -> None:
        try:
            while not (self._is_closed and self._is_empty()):
                events = await self._next_events()
                now = self._clock()
                for command in self._machine.handle_all([event._replace(now=now) for event in events]):
                    self._obey(command)
        finally:
            # Should this end by a mistake of ours, nobody is to wait for ever.
            for job in self._jobs.values():
                job.is_over.set()

    def _is_empty(self) -> bool:
        return self._events.empty() and not self._jobs and not self._hosts

    async def _next_events(self) -> list[Event]:
        """All that has happened; a tick when it is time for one."""
        wake = self._machine.next_wake()
        events: list[Event] = []
        try:
            async with asyncio.timeout(None if wake is None else max(0.0, wake - self._clock())):
                events.append(await self._events.get())
        except TimeoutError:
            return [Tick(0.0)]
        while not self._events.empty():
            events.append(self._events.get_nowait())
        return events

    def _obey(self, command: Command) -> None:
        match command:
            case Allocate(alloc, requirements):
                host = self._hosts[alloc] = _Host()
                host.life = self._spawn(self._live(alloc, host, requirements))
                host.life.add_done_callback(lambda _: self._forget(alloc))
            case Start(task, attempt, alloc):
                self._start(self._jobs[task], attempt, self._hosts[alloc])
            case Cancel(task):
                work = self._jobs[task].work
                assert work is not None, f"task {task.short} is cancelled, but does not run"
                work.cancel()
            case Release(alloc):
                released = self._hosts.get(alloc)
                if released is not None and released.life is not None:
                    released.life.cancel()
            case Report(task, error):
                job = self._jobs.pop(task)
                job.outcome = job.outcome if error is None else TaskOutcome(error=error)
                job.is_over.set()
            case _:
                assert_never(command)

    def _spawn(self, work: Coroutine[None, None, T]) -> asyncio.Task[T]:
        assert self._group is not None, "the scheduler was not entered"
        return self._group.create_task(work)

    # Allocs.

    async def _live(self, key: int, host: _Host, requirements: Requirements) -> None:
        """An alloc's life; cancelled when it is to be released."""
        try:
            host.alloc = await self._cluster.allocate(requirements, self._labels)
            self._post(AllocReady(key, host.alloc.resources, 0.0))
            error = await self._keeper(host.alloc, self._say).keep()
            self._say(f"alloc {host.alloc.id} keepalive failed: {error}")
            host.is_lost = True
            self._post(AllocLost(key, error, 0.0))
            await asyncio.Event().wait()
        except ReflowError as err:
            self._say(f"failed to allocate {requirements} from cluster: {err}")
            self._post(AllocFailed(key, err, kind_of(err) in _FINAL, 0.0))
        finally:
            if host.alloc is not None:
                await self._free(host.alloc)

    def _forget(self, key: int) -> None:
        del self._hosts[key]
        # Should this be the last one of a scheduler that ends, it has to look again.
        self._post(Tick(0.0))

    async def _free(self, alloc: Alloc) -> None:
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await alloc.free()
        except (ReflowError, TimeoutError) as err:
            self._say(f"alloc {alloc.id} free failed: {err}")

    # Attempts.

    def _start(self, job: _Job, number: int, host: _Host) -> None:
        task, alloc = job.task, host.alloc
        assert alloc is not None, f"task {task.id.short} is started on an alloc that is not there yet"
        if number > 0:
            lost, job.exec_id = job.exec_id, Digest.random()
            self._say(
                f"task {lost.short} (flow {task.flow_id.short}) has been lost, "
                f"will retry (attempt {number}) as task {job.exec_id.short}"
            )

        def staged(running: AllocExec) -> None:
            if task.on_start is not None:
                task.on_start(running)
            self._post(Staged(task.id, number, 0.0))

        attempt = Attempt(
            task, job.exec_id, alloc, self._around, staged=staged, is_alloc_lost=lambda: host.is_lost
        )
        job.work = self._spawn(attempt.run())
        self._spawn(self._watch(job, number, host, attempt, job.work))

    async def _watch(
        self, job: _Job, number: int, host: _Host, attempt: Attempt, work: asyncio.Task[AttemptEnd]
    ) -> None:
        """Wait for the end of an attempt, clean up if it was cut short, and tell the machine."""
        await asyncio.wait([work])
        task = job.task.id
        if work.cancelled():
            is_usable = await attempt.clean_up() and not host.is_lost
            error = ReflowError(Kind.CANCELED, "task", job.exec_id.short)
            self._post(Exited(task, number, Ending.LOST, error, is_usable, 0.0))
            return
        end = work.result()
        job.outcome = end.outcome
        ending = Ending.DONE if end.is_done else Ending.LOST
        self._post(Exited(task, number, ending, end.outcome.error, end.is_alloc_usable, 0.0))


if TYPE_CHECKING:
    _: type[Scheduler] = ClusterScheduler
